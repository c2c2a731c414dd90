"""What export refuses."""


class ExportError(ValueError):
    """The checkpoint or the options cannot become a bundle: "field: expected X, got Y"."""
