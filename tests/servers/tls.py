"""An authority of the tests' own, and the certificate of a server on 127.0.0.1."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

_DAYS = "2"


@dataclass(frozen=True, slots=True)
class Certificate:
    """The files of a server, and of the authority that its clients trust."""

    authority: Path
    certificate: Path
    key: Path


def certify_server(folder: Path) -> Certificate:
    """Make an authority, and a certificate that it signed for 127.0.0.1 and localhost."""
    ca, ca_key = folder / "ca.crt", folder / "ca.key"
    certificate, key, request = folder / "server.crt", folder / "server.key", folder / "server.csr"
    names = folder / "server.ext"
    names.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n", encoding="ascii")
    _openssl("req", "-x509", *_new_key(ca_key), "-subj", "/CN=tests", "-days", _DAYS, "-out", ca)
    _openssl("req", *_new_key(key), "-subj", "/CN=127.0.0.1", "-out", request)
    sign = ("-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-extfile", names, "-days", _DAYS)
    _openssl("x509", "-req", "-in", request, *sign, "-out", certificate)
    key.chmod(0o600)
    return Certificate(ca, certificate, key)


def _new_key(path: Path) -> tuple[str | Path, ...]:
    return (
        *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-keyout", path),
    )


def _openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)
