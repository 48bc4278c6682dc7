"""Writing a folder: what was generated before is replaced, and nothing strange is left in between.

A file that is not written this time would still be applied, or rendered, by whoever takes the whole
folder: a Service of the mode of yesterday. So such a file is an error that names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from incumbent.errors import ConfigError

__all__ = ["write"]


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Write text by path below `folder`, which is made if it is not there.

    Raises:
        ConfigError: the folder has other manifests in it, or cannot be written.
    """
    try:
        _look(folder, files)
        for path, text in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    except (NotADirectoryError, FileExistsError) as error:
        raise ConfigError(f"{error.filename} is not a folder: give another one") from None
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be written: {error.strerror}") from None


def _look(folder: Path, files: Mapping[str, str]) -> None:
    for inner in {Path(path).parent for path in files} - {Path()}:
        if not (folder / inner).is_dir():
            continue
        for found in sorted((folder / inner).iterdir()):
            if found.suffix in (".yaml", ".yml", ".tpl") and str(inner / found.name) not in files:
                raise ConfigError(
                    f"{found} is not of what is written now, and would be applied with it: remove "
                    "it, or give another folder"
                )
