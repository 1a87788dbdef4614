"""Read YAML files as plain data; refuse duplicate keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from edgeflow.errors import ConfigError
from edgeflow.files import read_text

#: Tag of the merge key ``<<``; keys beside it override the merged mapping.
_MERGE: Final = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """Loads plain data only; a duplicate key is an error, since one of its values would be lost."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != _MERGE]
        for key in keys:
            if keys.count(key) > 1:
                line = node.start_mark.line + 1
                raise ConfigError(
                    f"key {key!r} is given {keys.count(key)} times in what begins on line {line}"
                )
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, what: str) -> Any:
    """Return the content of a YAML (or JSON) file; ``what`` names the kind of file in errors.

    Raises:
        ConfigError: If it cannot be read, is not YAML, or has a key twice; names the file.
    """
    text = read_text(path, what)
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
