"""The unmodified client library gets its tokens from the stand-in as it does from Google."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests
from google.auth.exceptions import OAuthError, RefreshError
from google.auth.identity_pool import Credentials
from google.auth.transport.requests import Request

from contract.google.parts import Google
from spangate.model.google import CLOUD_SCOPE

JWT = "urn:ietf:params:oauth:token-type:jwt"


@pytest.fixture
def account_file(google: Google, tmp_path: Path) -> Any:
    """Writes the `external_account` configuration; the subject token is in a file beside it."""

    def write(subject_token: str, **more: Any) -> dict[str, Any]:
        file = tmp_path / "subject-token"
        file.write_text(subject_token)
        return {
            "type": "external_account",
            "audience": google.audience,
            "subject_token_type": JWT,
            "token_url": f"{google.sts}/v1/token",
            "credential_source": {"file": str(file)},
            **more,
        }

    return write


def refreshed(info: dict[str, Any]) -> Any:
    credentials = Credentials.from_info(info, scopes=[CLOUD_SCOPE])
    with requests.Session() as session:
        credentials.refresh(Request(session))
    return credentials


def impersonation(google: Google, account: str) -> dict[str, Any]:
    url = f"{google.iam}/v1/projects/-/serviceAccounts/{account}:generateAccessToken"
    return {
        "service_account_impersonation_url": url,
        "service_account_impersonation": {"token_lifetime_seconds": 600},
    }


def test_a_token_from_a_file_is_exchanged(google: Google, account_file: Any) -> None:
    credentials = refreshed(account_file(google.token()))
    assert credentials.valid


def test_it_goes_on_to_impersonate_a_service_account(google: Google, account_file: Any) -> None:
    credentials = refreshed(account_file(google.token(), **impersonation(google, google.account)))
    assert credentials.token
    assert credentials.service_account_email == google.account


def test_the_token_is_that_identitys_on_the_stand_in_only(google: Google, account_file: Any, standin: Any) -> None:
    for more, name in (({}, "principal://"), (impersonation(google, google.account), google.account)):
        credentials = refreshed(account_file(google.token(), **more))
        with requests.post(f"{google.sts}/v1/introspect", data={"token": credentials.token}, timeout=30) as answer:
            assert answer.json()["username"].startswith(name)


def test_the_library_reads_the_errors(google: Google, account_file: Any) -> None:
    with pytest.raises(OAuthError, match="invalid_grant: The audience in ID Token"):
        refreshed(account_file(google.token(aud="other")))
    with pytest.raises(RefreshError, match="Unable to acquire impersonated credentials") as error:
        refreshed(account_file(google.token(), **impersonation(google, google.unbound)))
    assert json.loads(error.value.args[1])["error"]["status"] == "PERMISSION_DENIED"
