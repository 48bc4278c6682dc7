"""The store `redis://`: one Redis or Valkey server that has no replicas.

    redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE][?prefix=KEY]
    rediss://…                     with TLS; &ssl_ca_certs=PATH&ssl_certfile=PATH&ssl_keyfile=PATH
    redis:///PATH[?db=DATABASE]    a Unix socket
    valkey://, valkeys://          the same
    …?recipe=redis-py&lock=KEY     the lock of redis-py, `redis.lock.Lock`; see `recipe`

`scripts` has the rules: what is compared and written, and what of a server that forgets is
believed. `driver` makes a key-value store of it, `follower` and `view` its notifications; `client`
is the only module that knows redis-py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from incumbent.errors import ConfigError
from incumbent.stores.api import (
    ON_ONE_SERVER,
    Capabilities,
    Fault,
    Grade,
    Store,
    StoreURL,
    missing_extra,
)
from incumbent.stores.beside import LockStore
from incumbent.stores.kv import KeyValueStore
from incumbent.stores.recipes import recipe_of

__all__ = ["CAPABILITIES", "open", "set_ups"]

CAPABILITIES = Capabilities(
    scheme="redis",
    sessions=True,
    token=True,
    judged_by="observers",
    confirmed_by="a script that compares and writes, on the primary",
    wakes_by="publish and subscribe; a read every 5 s",
    evidence="",
    absent_is_vacant=False,
    whole_seconds=False,
    one_host=False,
    grade=Grade.EXCLUSIVE_WITH_FENCING,
    assumes=(
        "one server without replicas, none is put in its place while it still answers, and clock "
        "rates differ by no more than rho"
    ),
    survives=ON_ONE_SERVER | {Fault.SERVER_EMPTIED},
    bars=True,
    checkpoints=True,
)
REPLICATED = replace(
    CAPABILITIES,
    grade=Grade.EFFICIENCY_ONLY,
    assumes=(
        "a replica may be promoted while the old primary still answers: then two lead; for more, "
        "leave ?replicas=accept out, which takes a server without replicas (docs/stores/redis.md)"
    ),
)
REDIS_PY = Capabilities(
    scheme="redis",
    sessions=False,
    token=True,
    judged_by="observers",
    confirmed_by="a script that finds our nonce in the key and extends it, on the primary",
    wakes_by="publish and subscribe; of a lock of theirs, keyspace events or a read every 1 s",
    evidence="",
    absent_is_vacant=False,
    whole_seconds=False,
    one_host=False,
    grade=Grade.EXCLUSIVE_WITH_FENCING,
    assumes=CAPABILITIES.assumes,
    survives=ON_ONE_SERVER | {Fault.SERVER_EMPTIED},
    one_process=False,
    unseen_ttls=0.0,
    takeover_trips=3,
    bars=True,
    checkpoints=False,
    renews=True,
    queue=False,
    label_names=False,
    reads=True,
    partner="redis-py's Lock",
    partner_breaks=(
        "its lock lapses by the server's wall clock while its work goes on, and it is not stopped; "
        "without a timeout it is held for ever after a crash; a clock of the server that is set "
        "forward, or DEL, gives it a lock that we hold until our next renewal is refused; DEL of "
        "a bar lets it in. Fence"
    ),
)
RECIPES = {"redis-py": REDIS_PY}
_TLS = {"ssl_ca_certs": "ca_certs", "ssl_certfile": "certfile", "ssl_keyfile": "keyfile"}


def set_ups() -> dict[str, Capabilities]:
    """Return what is declared where an option makes it another store, by that option."""
    return {f"recipe={recipe}": declared for recipe, declared in RECIPES.items()}


def open(url: StoreURL) -> Store:
    """Return the store of `redis://HOST`; nothing is sent yet.

    Raises:
        ConfigError: the URL cannot be used.
        MissingExtra: redis-py is not installed.
    """
    secure = url.scheme in ("rediss", "valkeys")
    options = url.take_options(
        "prefix", "replicas", "db", "recipe", "lock", *(_TLS if secure else ())
    )
    recipe = recipe_of(url.scheme, options, RECIPES)
    if recipe and "prefix" in options:
        raise ConfigError(f"{url.scheme}://: recipe={recipe} has no prefix; name the key by lock=")
    replicas = options.get("replicas", "")
    if replicas not in ("", "accept"):
        raise ConfigError(f"replicas={replicas!r} is not known: use 'accept', or leave it out")
    prefix = options.get("prefix", "incumbent")
    if not prefix or not prefix.isprintable() or set(prefix) & set(" *?[]\\"):
        raise ConfigError(f"prefix={prefix!r}: use a name of a key without spaces and patterns")
    place = _place(url, options.get("db", ""), secure=secure)
    name = _name(url, place)
    shown: dict[str, str] = {}
    for key in ("prefix", "replicas", "recipe", "lock"):
        if key in options:
            shown[key] = options[key]
    try:
        from incumbent.stores.redis.client import Address
        from incumbent.stores.redis.driver import RedisKeyValue
        from incumbent.stores.redis.recipe import RedisLocks
    except ModuleNotFoundError as error:
        raise missing_extra(url.scheme, "redis", error) from None
    tls = _tls(options) if secure else None
    address = Address(name, username=url.username, password=url.password, tls=tls, **place)
    declared = REPLICATED if replicas else CAPABILITIES
    mark = "&" if "?" in name else "?"
    full = name + (f"{mark}{urlencode(shown)}" if shown else "")
    if recipe:
        if replicas:
            lock_of = replace(RECIPES[recipe], grade=declared.grade, assumes=declared.assumes)
        else:
            lock_of = RECIPES[recipe]
        locks = RedisLocks(address, replicas=bool(replicas))
        template = options.get("lock", "{name}")
        return LockStore(locks, full, replace(lock_of, scheme=url.scheme), template)
    driver = RedisKeyValue(address, prefix, replicas=bool(replicas))
    capabilities = replace(declared, scheme=url.scheme)
    return KeyValueStore(driver, full, capabilities, checkpoints=driver.checkpoints)


def _place(url: StoreURL, database: str, *, secure: bool) -> dict[str, Any]:
    path = url.path.strip("/")
    if not url.host and path and not path.isdecimal():
        if secure:
            raise ConfigError(f"{url.scheme}:// is for a host; a Unix socket has no TLS")
        return {"socket": url.path, "database": _number(database or "0", url)}
    if database and path:
        raise ConfigError("the database is given twice, as the path and as db=")
    return {
        "host": url.host or "localhost",
        "port": url.port or 6379,
        "database": _number(path or database or "0", url),
    }


def _number(text: str, url: StoreURL) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ConfigError(
            f"{text!r} is no number of a database: {url.scheme}://HOST:PORT/0, or "
            "redis:///PATH?db=0 for a Unix socket"
        )
    return int(text)


def _name(url: StoreURL, place: dict[str, Any]) -> str:
    """Return the URL without secrets; two that mean the same server look the same."""
    user = f"{quote(url.username)}@" if url.username else ""
    if "socket" in place:
        number = f"?db={place['database']}" if place["database"] else ""
        return f"{url.scheme}://{user}{quote(place['socket'])}{number}"
    host = f"[{place['host']}]" if ":" in place["host"] else place["host"]
    return f"{url.scheme}://{user}{host}:{place['port']}/{place['database']}"


def _tls(options: dict[str, str]) -> dict[str, Any]:
    paths = {key: options[key] for key in _TLS if key in options}
    for key, path in paths.items():
        if not Path(path).is_file():
            raise ConfigError(f"{key}={path!r} is no file")
    if "ssl_keyfile" in paths and "ssl_certfile" not in paths:
        raise ConfigError("ssl_keyfile= without ssl_certfile=")
    return {**paths, "ssl_cert_reqs": "required", "ssl_check_hostname": True}
