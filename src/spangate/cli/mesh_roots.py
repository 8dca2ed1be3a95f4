"""How `spangate cacerts` shows the steps of a rotation of a mesh's root."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from spangate.adapters.istio_files import MANIFEST
from spangate.app.mesh_roots import checked_step, mesh_rotation
from spangate.authority.istio_secret import ISTIOD_ENVIRONMENT, PROXY_METADATA, CaCerts
from spangate.errors import YourFault


def cacerts_command(out: Console, current: Path, new: Path | None, check: Path | None, folder: Path | None) -> None:
    """Checks one step, or writes all."""
    if check is not None:
        if new is not None or folder is not None:
            raise YourFault("give either --check, or --out and perhaps --new")
        before, after = checked_step(current, check)
        out.print(f"fine: {_said(before)} -> {_said(after)}")
        return
    if folder is None:
        raise YourFault("say where the steps are to be written", help="--out FOLDER; it must not exist yet")
    steps = mesh_rotation(current, new, folder)
    out.print("before the first step, istiod needs (with a restart of the proxies):")
    for name, value in ISTIOD_ENVIRONMENT.items():
        out.print(f"  values.pilot.env.{name}={value}")
    for name, value in PROXY_METADATA.items():
        out.print(f'  meshConfig.defaultConfig.proxyMetadata.{name}="{value}"')
    for step in steps:
        out.print(f"{step.name}: {step.purpose}")
        out.print(f"  kubectl apply -f {folder / step.name / MANIFEST}")
        out.print(f"  then wait {step.wait}")
    if new is None:
        out.print(f"the new root's key lies in {folder / 'new-root'}: take it off this machine")


def _said(secret: CaCerts) -> str:
    under = ", ".join(print_[:16] for print_ in sorted(secret.under))
    return f"{len(secret.roots)} root(s) trusted, {under} signs"
