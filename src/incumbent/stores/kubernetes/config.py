"""Where the API server is, how it is trusted, and who we are to it.

Sources, the first that is there: the `kubeconfig` option, the variable KUBECONFIG, the service
account of the Pod, `~/.kube/config`. A `context` option leaves the service account out.

Credentials may change while a process runs, and a leader must survive that:

- a token file (a Pod's bound token is replaced by the kubelet, about every hour) is read again
  when what was read is a minute old, and at once after an answer of 401;
- a command (exec plugin) is run again after an answer of 401. It gets KUBERNETES_EXEC_INFO and may
  speak version v1 or v1beta1. It may return a token; one that returns a client certificate is
  refused, with that reason.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import os
import re
import socket
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from incumbent.core.records import check_identity
from incumbent.errors import ConfigError, InvalidName, StoreUnavailable
from incumbent.stores.kubernetes.pods import OwnPod

__all__ = ["Connection", "Credentials", "candidate_name", "load", "own_pod", "pod_name"]

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
DEFAULT_KUBECONFIG = Path("~/.kube/config")
_TOKEN_AGE_S = 60.0
_COMMAND_LIMIT_S = 60.0
_EXEC_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
_GREATEST_POD_NAME = 160

Entry = dict[str, Any]


class Credentials(Protocol):
    """Makes the Authorization header."""

    async def header(self, *, refused: bool) -> str | None:
        """Return the header; `refused` asks for another one than before.

        Returns:
            None if there is none, or no other one.
        """
        ...


@dataclass(frozen=True, slots=True)
class Connection:
    """What a client needs to know.

    Attributes:
        server: the URL.
        namespace: of the context, or of the Pod.
        tls: None for plain HTTP.
        credentials: see there.
        tls_name: the name in the certificate, if it is not the host of the URL.
    """

    server: str
    namespace: str
    tls: ssl.SSLContext | None
    credentials: Credentials = field(repr=False)
    tls_name: str = ""


class Token:
    """A fixed header, or none."""

    def __init__(self, header: str | None) -> None:
        self._header = header

    async def header(self, *, refused: bool) -> str | None:
        """Return the header; there is no other one."""
        return None if refused else self._header


class TokenFile:
    """A token that somebody replaces from time to time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._header: str | None = None
        self._read_at = 0.0

    async def header(self, *, refused: bool) -> str | None:
        """Return the header; read the file if that was long ago, or if the token was refused."""
        now = asyncio.get_running_loop().time()
        if refused or self._header is None or now - self._read_at > _TOKEN_AGE_S:
            try:
                self._header = f"Bearer {_read(self._path).strip()}"
            except ConfigError as error:
                if self._header is None:
                    raise StoreUnavailable(str(error)) from None
            self._read_at = now
        return self._header


class Command:
    """A token that a command returns (client-go's exec credential plugin)."""

    def __init__(self, entry: Entry, server: str) -> None:
        self._version = str(entry.get("apiVersion"))
        if self._version not in _EXEC_VERSIONS:
            known = " and ".join(_EXEC_VERSIONS)
            raise ConfigError(f"kubeconfig: exec speaks {self._version}; known are {known}")
        self._command = [str(entry["command"]), *map(str, entry.get("args") or ())]
        self._environment = {str(e["name"]): str(e["value"]) for e in entry.get("env") or ()}
        self._server = server
        self._header: str | None = None
        self._running = asyncio.Lock()

    async def header(self, *, refused: bool) -> str | None:
        """Return the header; run the command if there is no token, or if it was refused."""
        before = self._header
        if before is not None and not refused:
            return before
        async with self._running:
            if self._header is before:
                self._header = f"Bearer {await self._run()}"
        return self._header

    async def _run(self) -> str:
        info = {
            "apiVersion": self._version,
            "kind": "ExecCredential",
            "spec": {"interactive": False, "cluster": {"server": self._server}},
        }
        environment = {**os.environ, **self._environment, "KUBERNETES_EXEC_INFO": json.dumps(info)}
        try:
            child = await asyncio.create_subprocess_exec(
                *self._command,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise StoreUnavailable(f"kubeconfig: cannot run {self._command[0]}: {error}") from None
        try:
            async with asyncio.timeout(_COMMAND_LIMIT_S):
                output, complaint = await child.communicate()
        except BaseException:
            if child.returncode is None:
                child.kill()
            raise
        try:
            if child.returncode:
                raise ValueError(complaint.decode("utf-8", "replace").strip()[-200:])
            status = json.loads(output)["status"]
            if "token" not in status:
                raise ValueError("it returned no token (client certificates are not supported)")
            return str(status["token"])
        except (KeyError, TypeError, ValueError) as error:
            raise StoreUnavailable(f"kubeconfig: {self._command[0]} failed: {error}") from None


# -- sources --------------------------------------------------------------------------------------


def load(
    *,
    kubeconfig: str = "",
    context: str = "",
    environ: Mapping[str, str] = os.environ,
    account: Path = SERVICE_ACCOUNT,
    say_by: tuple[str, str] = ("", ""),
) -> Connection:
    """Find out where the API server is.

    Args:
        kubeconfig: as somebody has said it; "" if nobody has.
        context: likewise.
        environ: the variables.
        account: the folder of a Pod's service account.
        say_by: how the two are said where this is asked for, as in `--kubeconfig PATH`, for the
            error if one is missing; "" where they cannot be.

    Raises:
        ConfigError: nothing was found, or what was found cannot be used.
    """
    paths = [Path(p).expanduser() for p in kubeconfig.split(os.pathsep) if p]
    if not paths:
        named = environ.get("KUBECONFIG", "").split(os.pathsep)
        paths = [Path(p).expanduser() for p in named if p and Path(p).expanduser().is_file()]
    if not paths and not context and "KUBERNETES_SERVICE_HOST" in environ:
        return _of_pod(environ, account)
    if not paths:
        paths = [DEFAULT_KUBECONFIG.expanduser()]
    if not kubeconfig and not paths[0].is_file():
        said = environ.get("KUBECONFIG", "")
        why = f"KUBECONFIG={said} names no file" if said else "KUBECONFIG is not set"
        raise ConfigError(
            f"no Kubernetes API server is known: this is no Pod with a service account, {why}, and "
            f"{DEFAULT_KUBECONFIG} is not there: name a kubeconfig by "
            f"{_either(say_by[0], 'KUBECONFIG')}, or run this in a Pod"
        )
    return _of_kubeconfig(paths, context, say_by[1])


def _either(*ways: str) -> str:
    return " or ".join(filter(None, ways))


def _of_pod(environ: Mapping[str, str], account: Path) -> Connection:
    host = environ["KUBERNETES_SERVICE_HOST"]
    port = environ.get("KUBERNETES_SERVICE_PORT", "443")
    bracketed = f"[{host}]" if ":" in host else host
    token = account / "token"
    _read(token)
    return Connection(
        server=f"https://{bracketed}:{port}",
        namespace=_read(account / "namespace").strip(),
        tls=_tls({"certificate-authority": str(account / "ca.crt")}, {}),
        credentials=TokenFile(token),
    )


def _of_kubeconfig(paths: list[Path], wanted: str, say_by: str) -> Connection:
    """Merge the files as kubectl does: who names something first, wins."""
    known: dict[str, dict[str, Entry]] = {"clusters": {}, "users": {}, "contexts": {}}
    current = ""
    for path in paths:
        config = _parse(path)
        current = current or str(config.get("current-context") or "")
        for kind, entries in known.items():
            for entry in config.get(kind) or ():
                body = entry.get(kind.removesuffix("s")) or {}
                entries.setdefault(str(entry["name"]), _absolute(body, path.parent))
    where = ", ".join(map(str, paths))
    name = wanted or current
    if not name:
        have = ", ".join(sorted(known["contexts"])) or "none"
        raise ConfigError(
            f"{where} has no current-context: choose one by "
            f"{_either(say_by, '`kubectl config use-context NAME`')}; it has: {have}"
        )
    context = _named(known["contexts"], name, "context", where)
    cluster = _named(known["clusters"], str(context.get("cluster")), "cluster", where)
    user_name = str(context.get("user") or "")
    user = _named(known["users"], user_name, "user", where) if user_name else {}
    server = str(cluster.get("server") or "")
    if not re.match(r"https?://", server):
        raise ConfigError(f"{where}: the cluster of context {name!r} has no server URL")
    if cluster.get("proxy-url"):
        raise ConfigError(f"{where}: proxy-url is not supported; an elector needs a direct way")
    return Connection(
        server=server.rstrip("/"),
        namespace=str(context.get("namespace") or "default"),
        tls=_tls(cluster, user) if server.startswith("https:") else None,
        credentials=_credentials(user, server),
        tls_name=str(cluster.get("tls-server-name") or ""),
    )


def _parse(path: Path) -> Entry:
    try:
        import yaml
    except ImportError:
        raise ConfigError(
            "a kubeconfig needs PyYAML: pip install 'incumbent[kubernetes]'"
        ) from None
    try:
        config = yaml.safe_load(_read(path))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    if not isinstance(config, dict):
        raise ConfigError(f"{path} is not a kubeconfig")
    return config


def _named(entries: dict[str, Entry], name: str, kind: str, where: str) -> Entry:
    if name not in entries:
        have = ", ".join(sorted(entries)) or "none"
        raise ConfigError(f"{where} has no {kind} {name!r}; it has: {have}")
    return entries[name]


def _absolute(body: Entry, folder: Path) -> Entry:
    """Return an entry whose files are named from the root, not from the file that names them."""
    files = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
    return {k: str(folder / str(v)) if k in files and v else v for k, v in body.items()}


def _credentials(user: Entry, server: str) -> Credentials:
    if user.get("tokenFile"):
        return TokenFile(Path(user["tokenFile"]))
    if user.get("token"):
        return Token(f"Bearer {user['token']}")
    if user.get("exec"):
        return Command(user["exec"], server)
    if user.get("username"):
        pair = f"{user['username']}:{user.get('password') or ''}".encode()
        return Token("Basic " + base64.b64encode(pair).decode("ascii"))
    if user.get("auth-provider"):
        raise ConfigError("kubeconfig: auth-provider was removed from Kubernetes; use exec")
    return Token(None)


def _tls(cluster: Entry, user: Entry) -> ssl.SSLContext:
    data = cluster.get("certificate-authority-data")
    path = cluster.get("certificate-authority")
    try:
        text = base64.b64decode(data).decode("ascii") if data else None
        context = ssl.create_default_context(cadata=text, cafile=None if data else path)
        if cluster.get("insecure-skip-tls-verify") is True:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        certificate = _pem(user, "client-certificate")
        if certificate:
            _load_chain(context, certificate + b"\n" + _pem(user, "client-key"))
    except (OSError, ValueError, binascii.Error) as error:
        raise ConfigError(f"the certificates to speak with Kubernetes are wrong: {error}") from None
    return context


def _pem(user: Entry, key: str) -> bytes:
    if user.get(f"{key}-data"):
        return base64.b64decode(user[f"{key}-data"])
    return Path(user[key]).read_bytes() if user.get(key) else b""


def _load_chain(context: ssl.SSLContext, pem: bytes) -> None:
    """Give OpenSSL a certificate and its key, which it takes from a file only, and for a moment."""
    if b"ENCRYPTED" in pem:
        # OpenSSL would ask for the pass phrase on the terminal, and wait.
        raise ValueError("the client key is encrypted; nobody is asked for a pass phrase")
    with tempfile.NamedTemporaryFile() as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None


# -- who we are -----------------------------------------------------------------------------------


def own_pod(
    environ: Mapping[str, str] = os.environ, account: Path = SERVICE_ACCOUNT
) -> OwnPod | None:
    """Return the Pod that we run in, or None outside of one.

    What the downward API tells in `POD_NAME`, `POD_UID`, `POD_NAMESPACE`, `POD_IP` and `NODE_NAME`
    comes first; most of it is also in the token of the Pod's service account.
    """
    if "KUBERNETES_SERVICE_HOST" not in environ:
        return None
    name, uid = _bound_pod(account)
    namespace = environ.get("POD_NAMESPACE", "")
    if not namespace:
        with contextlib.suppress(OSError, ValueError):
            namespace = (account / "namespace").read_text(encoding="utf-8").strip()
    return OwnPod(
        namespace,
        environ.get("POD_NAME") or name or environ.get("HOSTNAME") or socket.gethostname(),
        environ.get("POD_UID") or uid,
        environ.get("POD_IP", ""),
        environ.get("NODE_NAME", ""),
    )


def candidate_name(
    environ: Mapping[str, str] = os.environ, account: Path = SERVICE_ACCOUNT
) -> str | None:
    """Return `POD_UID`, the Pod's name and UID, or None outside of a Pod.

    The name alone would not do: the Pods of a StatefulSet come back under the same name.
    """
    pod = own_pod(environ, account)
    if pod is None:
        return None
    name = re.sub(r"[^-.A-Za-z0-9]", "-", pod.name)[:_GREATEST_POD_NAME].strip("-.")
    uid = re.sub(r"[^-A-Za-z0-9]", "-", pod.uid)[:36].strip("-")
    try:
        return check_identity(f"{name}_{uid}" if uid else name)
    except InvalidName:
        return None


def pod_name(environ: Mapping[str, str] = os.environ, account: Path = SERVICE_ACCOUNT) -> str:
    """Return the name of the Pod that this runs in, or "" if that is not known."""
    return environ.get("POD_NAME") or _bound_pod(account)[0]


def _bound_pod(account: Path) -> tuple[str, str]:
    """Return what the kubelet's token says of its Pod; nobody is asked to believe it."""
    try:
        payload = (account / "token").read_text(encoding="ascii").split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        pod = claims["kubernetes.io"]["pod"]
        return str(pod["name"]), str(pod["uid"])
    except (OSError, ValueError, LookupError, TypeError):
        return "", ""
