"""What export refuses."""


class ExportError(ValueError):
    """The checkpoint or the options cannot become a bundle: "field: expected X, got Y"."""


class UnreadError(ExportError):
    """The answer of a graph does not depend on some of its inputs.

    Attributes:
        graph: its name. names: of those inputs.
    """

    def __init__(self, graph: str, names: list[str]) -> None:
        wanted = f"a network that reads {', '.join(names)}"
        super().__init__(
            f"graphs.{graph}.inputs: expected {wanted}, got one whose answer does not depend on it"
        )
        self.graph, self.names = graph, names
