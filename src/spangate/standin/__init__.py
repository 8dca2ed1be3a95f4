"""A stand-in for Google's token service and IAM Credentials, for tests and `spangate up`. Pure, and never Google."""
