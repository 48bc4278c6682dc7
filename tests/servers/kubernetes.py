"""A real Kubernetes API server on its own etcd: what arbitrates a Lease, and nothing around it.

No controller runs, because none takes part in an election: namespaces and Leases need only
storage, authentication and RBAC. Users are known by static tokens, which the API server reads once
at its start, so every name that a test may need exists from the beginning, without rights; `grant`
gives them.

Everything here speaks HTTP through the standard library alone, so that a defect of the client
under test cannot hide in the fixture that should expose it. The certificate is the one that
kube-apiserver makes for itself in `--cert-dir`; it covers 127.0.0.1 on any port, hence also a
`Proxy` in front.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import secrets
import ssl
import subprocess
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.servers import build
from tests.servers.etcd import Etcd
from tests.servers.ports import claim_port
from tests.servers.process import ServerError, ServerProcess

ADMIN = "admin"
RESTRICTED = "restricted"
NOBODY = "nobody"
CANDIDATES = tuple(f"candidate-{number}" for number in range(1, 6))
USERS = (ADMIN, RESTRICTED, NOBODY, *CANDIDATES)

_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_REQUEST_TIMEOUT_S = 10.0
_READY_TIMEOUT_S = 2.0
_AUTHORIZATION_TIMEOUT_S = 10.0
_POLL_INTERVAL_S = 0.02

_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


class ApiError(RuntimeError):
    """The API server answered with an error."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Rule:
    """One RBAC rule, by default on Leases."""

    verbs: tuple[str, ...]
    resources: tuple[str, ...] = ("leases",)
    api_groups: tuple[str, ...] = ("coordination.k8s.io",)
    resource_names: tuple[str, ...] = ()

    def manifest(self) -> dict[str, list[str]]:
        manifest = {
            "verbs": list(self.verbs),
            "resources": list(self.resources),
            "apiGroups": list(self.api_groups),
        }
        if self.resource_names:
            manifest["resourceNames"] = list(self.resource_names)
        return manifest

    def accesses(self, namespace: str | None) -> list[dict[str, str]]:
        """Every single access that the rule allows, as the attributes of an access review."""
        accesses = []
        for group in self.api_groups:
            for resource in self.resources:
                for verb in self.verbs:
                    for name in self.resource_names or ("",):
                        access = {"group": group, "verb": verb, "name": name}
                        access["resource"], _, access["subresource"] = resource.partition("/")
                        if namespace is not None:
                            access["namespace"] = namespace
                        accesses.append(access)
        return accesses


@dataclass(frozen=True, slots=True)
class Grant:
    """The rights that one call of `grant` gave, to be given to `revoke`."""

    name: str
    user: str
    rules: tuple[Rule, ...]
    namespace: str | None


class ApiServer:
    """kube-apiserver and its etcd, with data below `base_dir`.

    `apiserver` and `etcd` are the two processes, to pause, resume, restart or kill one by one;
    `start` and `stop` act on both. `users` are further names with tokens, `arguments` further
    flags of kube-apiserver.
    """

    def __init__(
        self,
        base_dir: Path,
        *,
        users: Sequence[str] = (),
        audit: bool = False,
        arguments: Sequence[str] = (),
    ) -> None:
        self._base_dir = base_dir
        self._tokens = {user: secrets.token_hex(16) for user in (*USERS, *users)}
        self._certificate_dir = base_dir / "certificates"
        self._audit_path = base_dir / "audit.log" if audit else None
        self._context: ssl.SSLContext | None = None
        self._port = claim_port()
        base_dir.mkdir(parents=True, exist_ok=True)
        self.url = f"https://127.0.0.1:{self._port}"
        self.etcd = Etcd(base_dir / "etcd")
        self.apiserver = ServerProcess(
            "kube-apiserver",
            [build.ensure("kube-apiserver"), *self._flags(), *arguments],
            log_path=base_dir / "kube-apiserver.log",
            ready=self._is_ready,
        )

    @property
    def host(self) -> str:
        return "127.0.0.1"

    @property
    def port(self) -> int:
        return self._port

    @property
    def ca_file(self) -> Path:
        """What to trust: the generated certificate, followed by the authority that signed it."""
        return self._certificate_dir / "apiserver.crt"

    def start(self) -> None:
        """Start both at the same time; the API server waits for its etcd by itself."""
        try:
            self.etcd.spawn()
            self.apiserver.spawn()
            self.etcd.wait_ready()
            self.apiserver.wait_ready()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End both at once: their data is temporary, and in order they would take seconds."""
        self.kill()

    def kill(self) -> None:
        self.apiserver.kill()
        self.etcd.kill()

    def token(self, user: str = ADMIN) -> str:
        """The bearer token of a user, who has to be one of `USERS` or of the given `users`."""
        try:
            return self._tokens[user]
        except KeyError:
            raise ValueError(f"no user {user!r}; known: {', '.join(self._tokens)}") from None

    def kubeconfig(
        self, user: str = ADMIN, *, url: str | None = None, namespace: str = "default"
    ) -> Path:
        """Write a kubeconfig file; `url` replaces the server's own, for a proxy in front of it."""
        certificates = base64.b64encode(self.ca_file.read_bytes()).decode("ascii")
        text = textwrap.dedent(
            f"""\
            apiVersion: v1
            kind: Config
            clusters:
            - name: test
              cluster:
                server: {url or self.url}
                certificate-authority-data: {certificates}
            users:
            - name: {user}
              user:
                token: {self.token(user)}
            contexts:
            - name: test
              context:
                cluster: test
                user: {user}
                namespace: {namespace}
            current-context: test
            """
        )
        path = self._base_dir / "kubeconfigs" / f"{user}-{secrets.token_hex(4)}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
        return path

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        user: str = ADMIN,
        content_type: str = "application/json",
        timeout_s: float = _REQUEST_TIMEOUT_S,
    ) -> dict[str, Any]:
        """Send one request on its own connection; an error as the answer raises `ApiError`.

        No answer raises what the socket raised, such as `TimeoutError` or `ConnectionRefusedError`.
        """
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self.token(user)}",
                "Accept": "application/json",
                "Content-Type": content_type,
            },
        )
        try:
            with self._opener().open(request, timeout=timeout_s) as response:
                answer: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                raise _api_error(error) from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, OSError):
                raise error.reason from None
            raise
        return answer

    def service_account_token(self, namespace: str, name: str, secret: str) -> str:
        """Return a token as the kubelet gets one; it is void once the secret is deleted."""
        path = f"/api/v1/namespaces/{namespace}"
        bound = self.request("POST", f"{path}/secrets", {"metadata": {"name": secret}})
        reference = {
            "apiVersion": "v1",
            "kind": "Secret",
            "name": secret,
            "uid": bound["metadata"]["uid"],
        }
        answer = self.request(
            "POST",
            f"{path}/serviceaccounts/{name}/token",
            {"spec": {"expirationSeconds": 3600, "boundObjectRef": reference}},
        )
        token: str = answer["status"]["token"]
        return token

    def create_namespace(self, name: str) -> None:
        self.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})

    def lease_path(self, namespace: str, name: str = "") -> str:
        """The path of one Lease, or without a name that of all of a namespace."""
        path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        return f"{path}/{name}" if name else path

    def get_lease(self, namespace: str, name: str) -> dict[str, Any]:
        return self.request("GET", self.lease_path(namespace, name))

    def grant(self, user: str, rules: Sequence[Rule], namespace: str | None = None) -> Grant:
        """Give rights, in one namespace or in all, and returns once the API server applies them."""
        if not user.startswith("system:"):
            self.token(user)
        grant = Grant(f"{user}-{secrets.token_hex(4)}", user, tuple(rules), namespace)
        scope, role, binding = _rbac_kinds(namespace)
        metadata = {"name": grant.name}
        self.request(
            "POST",
            f"{scope}/{role.lower()}s",
            {"metadata": metadata, "rules": [rule.manifest() for rule in rules]},
        )
        self.request(
            "POST",
            f"{scope}/{binding.lower()}s",
            {
                "metadata": metadata,
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": role,
                    "name": grant.name,
                },
                "subjects": [
                    {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}
                ],
            },
        )
        self._await_authorization(grant, allowed=True)
        return grant

    def revoke(self, grant: Grant) -> None:
        """Take rights back, and returns once the API server refuses what only they allowed."""
        scope, role, binding = _rbac_kinds(grant.namespace)
        self.request("DELETE", f"{scope}/{binding.lower()}s/{grant.name}")
        self.request("DELETE", f"{scope}/{role.lower()}s/{grant.name}")
        self._await_authorization(grant, allowed=False)

    def allowed(self, user: str, access: Mapping[str, str]) -> bool:
        """Whether RBAC allows an access (group, resource, verb, namespace, name, …) to a user."""
        review = self.request(
            "POST",
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            {"spec": {"user": user, "resourceAttributes": dict(access)}},
        )
        return bool(review["status"]["allowed"])

    def audit_events(self, user: str | None = None) -> list[dict[str, Any]]:
        """The audit log so far: one event per stage of a request, without that of its arrival.

        A watch has two, ResponseStarted and ResponseComplete; every other request has the latter
        alone. The API server writes an event when it has handled the request, which may be shortly
        after its client has read the answer.
        """
        if self._audit_path is None:
            raise ValueError("this API server was not started with audit=True")
        text = self._audit_path.read_text(encoding="utf-8") if self._audit_path.exists() else ""
        complete_lines = text[: text.rfind("\n") + 1].splitlines()
        events: list[dict[str, Any]] = [json.loads(line) for line in complete_lines]
        return [event for event in events if user is None or event["user"].get("username") == user]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _flags(self) -> list[str]:
        token_path = self._base_dir / "tokens.csv"
        token_path.touch(mode=0o600)
        token_path.write_text(
            "".join(
                f"{token},{user},{user}{',system:masters' if user == ADMIN else ''}\n"
                for user, token in self._tokens.items()
            ),
            encoding="utf-8",
        )
        key_path = self._base_dir / "service-account.key"
        key_path.touch(mode=0o600)
        key_path.write_text(new_private_key(), encoding="ascii")
        flags = [
            f"--etcd-servers={self.etcd.url}",
            f"--secure-port={self._port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--cert-dir={self._certificate_dir}",
            f"--token-auth-file={token_path}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key_path}",
            f"--service-account-signing-key-file={key_path}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--disable-admission-plugins=ServiceAccount",
        ]
        if self._audit_path is not None:
            policy_path = self._base_dir / "audit-policy.json"
            policy_path.write_text(json.dumps(_AUDIT_POLICY), encoding="utf-8")
            flags += [
                f"--audit-policy-file={policy_path}",
                f"--audit-log-path={self._audit_path}",
                "--audit-log-mode=blocking",
            ]
        return flags

    def _opener(self) -> urllib.request.OpenerDirector:
        if self._context is None:
            self._context = ssl.create_default_context(cafile=str(self.ca_file))
        return urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self._context)
        )

    def _is_ready(self) -> bool:
        request = urllib.request.Request(
            f"{self.url}/readyz", headers={"Authorization": f"Bearer {self.token(ADMIN)}"}
        )
        with (
            contextlib.suppress(http.client.HTTPException),
            self._opener().open(request, timeout=_READY_TIMEOUT_S) as response,
        ):
            return bool(response.status == 200)
        return False

    def _await_authorization(self, grant: Grant, *, allowed: bool) -> None:
        deadline_s = time.monotonic() + _AUTHORIZATION_TIMEOUT_S
        for rule in grant.rules:
            for access in rule.accesses(grant.namespace):
                while self.allowed(grant.user, access) is not allowed:
                    if time.monotonic() > deadline_s:
                        verdict = "refused" if allowed else "allowed"
                        raise ServerError(f"{access} is still {verdict} to {grant.user}")
                    time.sleep(_POLL_INTERVAL_S)  # sleep: authorization can only be polled


def certify(folder: Path, *clients: str) -> Path:
    """Make an authority and the certificates of clients, given as NAME or NAME:GROUP.

    Returns the folder, with `ca.crt`, and `NAME.crt` and `NAME.key` of each.
    """
    folder.mkdir()
    subprocess.run([build.ensure("certificates"), folder, *clients], check=True)
    return folder


def _rbac_kinds(namespace: str | None) -> tuple[str, str, str]:
    if namespace is None:
        return _RBAC, "ClusterRole", "ClusterRoleBinding"
    return f"{_RBAC}/namespaces/{namespace}", "Role", "RoleBinding"


def _api_error(error: urllib.error.HTTPError) -> ApiError:
    text = error.read().decode("utf-8", errors="replace")
    try:
        status = json.loads(text)
        return ApiError(error.code, str(status["reason"]), str(status["message"]))
    except (ValueError, KeyError, TypeError):
        return ApiError(error.code, error.reason, text)


def new_private_key() -> str:
    """A P-256 key for service account tokens, in PEM.

    The standard library makes no keys, but this one is a random number in a fixed frame:
    ECPrivateKey of RFC 5915 (version 1, the number, the curve), whose public part is optional
    because it follows.
    """
    number = 1 + secrets.randbelow(2**255)
    der = (
        bytes.fromhex("3031020101")
        + bytes.fromhex("0420")
        + number.to_bytes(32, "big")
        + bytes.fromhex("a00a06082a8648ce3d030107")
    )
    body = "\n".join(textwrap.wrap(base64.b64encode(der).decode("ascii"), 64))
    return f"-----BEGIN EC PRIVATE KEY-----\n{body}\n-----END EC PRIVATE KEY-----\n"
