"""Expert iteration (HD-ExpIt): a hierarchy collects with itself and learns from what succeeded."""

from typing import TYPE_CHECKING

from keystep.lazy import lazy_names

if TYPE_CHECKING:
    from keystep.expit.config import ExpitConfig
    from keystep.expit.reading import read_config
    from keystep.expit.run import ExpitReport, expit
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {"ExpitConfig": "config", "ExpitReport": "run", "expit": "run", "read_config": "reading"},
    )

__all__ = ["ExpitConfig", "ExpitReport", "expit", "read_config"]
