"""keystep.export: the only writer of bundles."""

from typing import TYPE_CHECKING

from keystep.lazy import lazy_names

if TYPE_CHECKING:
    from keystep.export.bundle import export_bundle
    from keystep.export.convert.lerobot.convert import convert_lerobot
    from keystep.export.described import Actions
    from keystep.export.errors import ExportError
    from keystep.export.module import from_module
    from keystep.export.onnx_module import from_onnx
    from keystep.export.verify import verify_bundle
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "export_bundle": "bundle",
            "convert_lerobot": "convert.lerobot.convert",
            "ExportError": "errors",
            "Actions": "described",
            "from_module": "module",
            "from_onnx": "onnx_module",
            "verify_bundle": "verify",
        },
    )

__all__ = [
    "Actions",
    "ExportError",
    "convert_lerobot",
    "export_bundle",
    "from_module",
    "from_onnx",
    "verify_bundle",
]
