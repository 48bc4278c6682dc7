"""Seal and check in a transaction of a real etcd, sent by etcd3gw."""

from __future__ import annotations

import secrets
from base64 import b64decode, b64encode
from typing import Any

import pytest
from etcd3gw.client import Etcd3Client

from incumbent.errors import ConfigError, LeadershipLost, StaleToken
from incumbent.fencing import Fence
from incumbent.fencing import etcd as fencing
from tests.servers.etcd import Etcd


def base64(word: str) -> str:
    return b64encode(word.encode()).decode()


class Ledger:
    """A key, and the fence before it."""

    def __init__(self, server: Etcd) -> None:
        self.client = Etcd3Client(port=server.port, api_path="/v3/")
        self.name = f"ledger-{secrets.token_hex(4)}"

    def fence(self, token: int) -> Fence:
        return Fence(self.name, token, lambda: None)

    def send(self, token: int, txn: dict[str, Any]) -> dict[str, Any]:
        fence = self.fence(token)
        return fence.etcd_result(self.client.transaction(fence.etcd(txn)))

    def write(self, token: int, value: str, *, revision: int | None = None) -> bool:
        put = {"request_put": {"key": base64(self.name), "value": base64(value)}}
        txn: dict[str, Any] = {"success": [put]}
        if revision is not None:
            compare = {"key": base64(self.name), "target": "MOD", "mod_revision": str(revision)}
            txn["compare"] = [compare]
            txn["failure"] = [{"request_range": {"key": base64(self.name)}}]
        answer = self.send(token, txn)
        self.responses = answer["responses"]
        succeeded = answer["succeeded"]
        assert isinstance(succeeded, bool)
        return succeeded

    def read(self) -> tuple[str, int]:
        ((value, metadata),) = self.client.get(self.name, metadata=True)
        return value.decode(), int(metadata["mod_revision"])


@pytest.fixture
def ledger(etcd: Etcd) -> Ledger:
    return Ledger(etcd)


def test_a_later_leader_is_let_in_and_an_earlier_one_is_not(ledger: Ledger) -> None:
    assert ledger.write(3, "of 3")
    assert ledger.write(3, "of 3 again")
    assert ledger.write(19, "of 19")
    with pytest.raises(StaleToken, match="has seen token 19, and this term has 3"):
        ledger.write(3, "too late")
    with pytest.raises(StaleToken):
        ledger.write(18, "too late")
    assert ledger.read()[0] == "of 19"
    assert ledger.write(2**63, "the greatest")
    with pytest.raises(StaleToken):
        ledger.write(2**63 - 1, "too late")


def test_an_empty_transaction_seals_before_anything_is_read(ledger: Ledger) -> None:
    ledger.write(1, "of 1")
    answer = ledger.send(2, {})
    assert (answer["succeeded"], answer["responses"]) == (True, [])
    with pytest.raises(StaleToken):
        ledger.write(1, "between the read and the first write of 2")
    assert ledger.read()[0] == "of 1"


def test_the_answer_is_that_of_the_own_transaction(ledger: Ledger) -> None:
    """Whichever way it went, and whether the fence was new or known."""
    for token in (1, 2):
        assert ledger.write(token, f"of {token}")
        assert "response_put" in ledger.responses[0]
    seen = ledger.read()[1]
    assert ledger.write(2, "compared", revision=seen)
    assert not ledger.write(2, "compared with what was there before", revision=seen)
    (kv,) = ledger.responses[0]["response_range"]["kvs"]
    assert b64decode(kv["value"]) == b"compared"


def test_neither_branch_of_a_refused_transaction_is_carried_out(ledger: Ledger) -> None:
    ledger.write(5, "of 5")
    other = {"request_put": {"key": base64(ledger.name), "value": base64("the failure")}}
    never = {"key": base64(ledger.name), "target": "VERSION", "version": "0"}
    with pytest.raises(StaleToken):
        ledger.send(4, {"compare": [never], "failure": [other]})
    assert ledger.read()[0] == "of 5"


def test_what_cannot_be_fenced_is_named(ledger: Ledger) -> None:
    with pytest.raises(ConfigError, match="compare, success and failure"):
        ledger.send(1, {"then": []})
    with pytest.raises(ConfigError, match="no answer to a transaction"):
        ledger.fence(1).etcd_result({"header": {}})
    ledger.client.put(fencing.PREFIX + ledger.name, "moo")
    with pytest.raises(ConfigError, match="b'moo', and no token"):
        ledger.write(1, "of 1")


def test_a_term_that_is_over_sends_nothing(ledger: Ledger) -> None:
    def over() -> None:
        raise LeadershipLost("over")

    with pytest.raises(LeadershipLost):
        Fence(ledger.name, 1, over).etcd({})
