"""The error of this package, in a module that needs neither pyarrow nor numpy."""


class DatasetError(RuntimeError):
    """A dataset cannot be read or written as asked: which file or field, what was expected and found."""


class DatasetBusyError(DatasetError):
    """Another process is writing the dataset."""
