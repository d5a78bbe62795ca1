"""Validation of a server's base URL and API key before anything is sent."""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit

from meow_lightning.errors import UserError, invalid_option

_CHAT = "/chat/completions"
_EXPECTED = "an http or https URL such as http://localhost:8000/v1"


def checked_address(base_url: object) -> str:
    """Validate a server's base URL and strip trailing slashes.

    Raises:
        UserError: It is not a URL, or contains a user name, a password or a query, which messages would reveal.
    """
    if not isinstance(base_url, str) or not base_url.strip():
        raise invalid_option("inversion.base_url", base_url, _EXPECTED)
    given = base_url.strip()
    if "://" not in given:
        raise invalid_option("inversion.base_url", given, "an http or https URL", did_you_mean=f"http://{given}")
    try:
        parts = urlsplit(given)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise invalid_option("inversion.base_url", given, f"{_EXPECTED} ({error})") from error
    if parts.username or parts.password:
        raise UserError(
            "inversion.base_url contains a user name or a password; remove it, and put the key into the environment "
            "variable that inversion.key_env names"
        )
    if parts.scheme not in ("http", "https") or not host:
        raise invalid_option("inversion.base_url", given, _EXPECTED)
    if parts.query or parts.fragment:
        plain = given.split("?")[0].split("#")[0]
        raise invalid_option("inversion.base_url", f"{plain}…", "a URL without ? and #", did_you_mean=plain)
    if given.rstrip("/").endswith(_CHAT):
        short = given.rstrip("/").removesuffix(_CHAT)
        raise invalid_option(
            "inversion.base_url", given, f"the URL without {_CHAT}, which is appended", did_you_mean=short
        )
    return given.rstrip("/")


def is_local(base_url: str) -> bool:
    """Whether a base URL points to this machine."""
    host = urlsplit(base_url).hostname or ""
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return number.is_loopback or number.is_unspecified


def api_key(key_env: str | None, *, base_url: str) -> str | None:
    """Read the API key from an environment variable; ``None`` if no key is configured or set.

    Raises:
        UserError: It contains characters that are invalid in a key, or it would be sent unencrypted.
    """
    key = os.environ.get(key_env, "").strip() if key_env else ""
    if not key:
        return None
    if not (key.isascii() and key.isprintable()):
        raise UserError(
            f"the environment variable {key_env} contains a line break or a character that is invalid in a key; set it "
            "again"
        )
    if base_url.startswith("http://") and not is_local(base_url):
        raise UserError(
            f"inversion.base_url={base_url} would send the key in {key_env} unencrypted over the network; use an https "
            "URL, or set inversion.key_env=null to send no key"
        )
    return key
