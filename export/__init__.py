"""keystep.export: the only writer of bundles."""

from typing import TYPE_CHECKING

from keystep.lazy import lazy_names

if TYPE_CHECKING:
    from keystep.export.bundle import export_bundle
    from keystep.export.convert.lerobot.convert import convert_lerobot
    from keystep.export.errors import ExportError
    from keystep.export.module import Actions, from_module
    from keystep.export.verify import verify_bundle
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "export_bundle": "bundle",
            "convert_lerobot": "convert.lerobot.convert",
            "ExportError": "errors",
            "Actions": "module",
            "from_module": "module",
            "verify_bundle": "verify",
        },
    )

__all__ = ["Actions", "ExportError", "convert_lerobot", "export_bundle", "from_module", "verify_bundle"]
