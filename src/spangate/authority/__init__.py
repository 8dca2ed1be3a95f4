"""The certificate authority: template -> sign -> check what was signed -> record. Time and keys are injected."""
