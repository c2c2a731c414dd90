"""keystep check"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

import keystep
from keystep.bars import progress_bar


def main(dataset: Annotated[Path, tyro.conf.Positional]) -> None:
    """Read a dataset in the LeRobotDataset v3.0 layout completely, images included, and say what is wrong.

    A problem is what reading refuses. A remark is where the dataset leaves the layout and is read all the
    same, or what training will refuse, and says so. Ends with an error when there are problems.

    Args:
        dataset: the dataset's folder, or its id on the Hugging Face Hub.
    """
    from keystep.data.check import inspect_dataset
    from keystep.data.hub import local_folder

    folder = local_folder(dataset)
    with progress_bar() as bar:
        task = bar.add_task("reading", total=None)
        findings = inspect_dataset(folder, lambda done, total: bar.update(task, completed=done, total=total))
    for kind, lines in (("remark", findings.remarks), ("problem", findings.problems)):
        for line in lines:
            print(f"{kind}: {line}".encode(errors="backslashreplace").decode())
    if findings.problems:
        count = len(findings.problems)
        raise keystep.Error(f"{dataset}: expected a dataset that can be read, found {count} problem(s)")
    print("conforms to LeRobotDataset v3.0" if not findings.remarks else "can be read")
