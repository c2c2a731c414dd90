"""What a planner that writes code is made of, as plain configuration. Importing this needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from keystep.features import Feature
from keystep.models.checks import require
from keystep.models.config import build, plain
from keystep.models.observing import Observing, check_observation

OBJECTS = "observation.objects"
"""What is seen in place of a picture: slots of objects, of each whether, what and where it is."""
OBJECT_SLOTS = 8
NETWORKS = ("own", "llava")


@dataclass(frozen=True)
class CodePlannerConfig(Observing):
    """A decoder over text, in which tokens of what is seen stand (From Code to Action, sec. 4; LLaVA).

    Attributes:
        observation: an RGB picture or `OBJECTS`, one of them; and perhaps a vector of proprioception, which
            becomes one token. All of one frame.
        network: "own": a small one of the sizes below; "llava": LLaVA's, of sizes in `llava`.
        vocabulary: V, ids of tokens. context: most tokens of a prompt with its reply.
        pad_id, end_id, image_id, proprioception_id: of the tokens that fill up, end a reply, and are replaced
            by what is seen; of `llava` those of its tokeniser. The last means nothing without proprioception.
        image_tokens: K, of one picture, or one per slot of `OBJECTS`.
        width, layers, heads, key_heads, hidden: of the decoder: D, blocks, heads of queries and of keys, and
            width of the feed-forward layers.
        stem: channels of the four stages of the picture's encoder; each halves the picture's sides.
        names: what is found in a picture, and the ids of each one's words; numbers: the ids of 0, 1, .. up to
            the grid. An object then takes `tokens_of_an_object` of the K: its words, column and row; see
            `keystep.models.code_planner.finding`. {} and (): the picture's tokens are free.
        llava: keyword arguments of transformers' LlavaConfig; {} of an own network.
        image_mean, image_std: by channel, what `llava`'s vision tower expects pictures to be normalised by;
            CLIP's.
    """

    observation: tuple[Feature, ...] = ()
    network: str = "own"
    vocabulary: int = 640
    context: int = 1024
    pad_id: int = 0
    end_id: int = 1
    image_id: int = 2
    proprioception_id: int = 3
    image_tokens: int = 36
    width: int = 256
    layers: int = 6
    heads: int = 8
    key_heads: int = 2
    hidden: int = 512
    stem: tuple[int, ...] = (32, 64, 96, 160)
    names: dict[str, tuple[int, ...]] = field(default_factory=dict)
    numbers: tuple[int, ...] = ()
    llava: dict[str, Any] = field(default_factory=dict)
    image_mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    image_std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)

    def __post_init__(self) -> None:
        check_observation("code_planner", self.observation)
        for feature in self.observation:
            place = f"code_planner.observation: {feature.key}.history"
            require(feature.history == 1, place, "1 (it sees one frame)", feature.history)
        keys = [feature.key for feature in self.observation]
        seen = [key for key in keys if key == OBJECTS or key in {image.key for image in self.images}]
        where = "code_planner.observation"
        require(len(seen) == 1, where, f"one RGB picture, or {OBJECTS}", keys)
        require(len(keys) <= 2, where, "at most one vector of proprioception", keys)
        for name in (
            "vocabulary",
            "context",
            "image_tokens",
            "width",
            "layers",
            "heads",
            "key_heads",
            "hidden",
        ):
            require(
                getattr(self, name) > 0, f"code_planner.{name}", "a positive integer", getattr(self, name)
            )
        require(self.network in NETWORKS, "code_planner.network", " | ".join(NETWORKS), self.network)
        self._check_ids()
        self._check_names()
        self._check_objects() if self.objects else self._check_picture()
        self._check_llava() if self.network == "llava" else self._check_own()

    @property
    def picture(self) -> Feature | None:
        """The picture that it sees, if it does."""
        return next(iter(self.images), None)

    @property
    def objects(self) -> Feature | None:
        """The slots of objects that it sees, if it does."""
        return next((feature for feature in self.observation if feature.key == OBJECTS), None)

    @property
    def tokens_of_an_object(self) -> int:
        """Words of the longest name, column and row; of a planner with names."""
        return max(map(len, self.names.values())) + 2

    @property
    def proprioception(self) -> Feature | None:
        """The vector that becomes one token, if there is one."""
        return next((feature for feature in self.vectors if feature.key != OBJECTS), None)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return plain(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CodePlannerConfig:
        """Inverse of `to_dict` (through JSON); unknown keys are refused."""
        return build(cls, values, "code_planner")

    # ---- checks -------------------------------------------------------------------------------------------

    def _check_ids(self) -> None:
        ids = {"pad_id": self.pad_id, "end_id": self.end_id, "image_id": self.image_id}
        if self.proprioception is not None:
            ids["proprioception_id"] = self.proprioception_id
        for name, number in ids.items():
            wanted = f"an id below {self.vocabulary}, of no other special token"
            alone = list(ids.values()).count(number) == 1
            require(0 <= number < self.vocabulary and alone, f"code_planner.{name}", wanted, number)

    def _check_names(self) -> None:
        if not self.names and not self.numbers:
            return
        finds = self.picture is not None and self.network == "own"
        place = "code_planner.names"
        require(finds, place, "none (of an own network that sees a picture alone)", sorted(self.names))
        require(bool(self.names), place, "some, as there are numbers", self.names)
        for name, ids in self.names.items():
            require(self._are_ids(ids), f"{place}[{name!r}]", f"ids below {self.vocabulary}", ids)
        fits = self._are_ids(self.numbers) and len(self.numbers) > 1
        wanted = f"two or more ids below {self.vocabulary}, as there are names"
        require(fits, "code_planner.numbers", wanted, self.numbers)
        each, place = self.tokens_of_an_object, "code_planner.image_tokens"
        wanted = f"a multiple of {each} (words of a name, column and row)"
        require(self.image_tokens % each == 0, place, wanted, self.image_tokens)
        height, width = self.picture.shape[:2] if self.picture else (0, 0)
        cells, objects = height // 8 * (width // 8), self.image_tokens // each
        require(objects <= cells, place, f"at most {cells * each} (cells of the map)", self.image_tokens)

    def _are_ids(self, values: object) -> bool:
        if not isinstance(values, list | tuple) or not values:
            return False
        whole = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
        return whole and all(0 <= value < self.vocabulary for value in values)

    def _check_picture(self) -> None:
        assert self.picture is not None
        kind = self.picture.kind
        require(kind == "rgb", f"code_planner.observation: {self.picture.key}.kind", "rgb", kind)

    def _check_objects(self) -> None:
        assert self.objects is not None
        (values,) = self.objects.shape
        fits = values % OBJECT_SLOTS == 0 and values > OBJECT_SLOTS
        place = f"code_planner.observation: {OBJECTS}.shape"
        require(fits, place, f"{OBJECT_SLOTS} slots of at least two values", self.objects.shape)
        place, wanted = "code_planner.image_tokens", f"{OBJECT_SLOTS} (a token per slot of {OBJECTS})"
        require(self.image_tokens == OBJECT_SLOTS, place, wanted, self.image_tokens)
        require(self.network == "own", "code_planner.network", f"own (of {OBJECTS})", self.network)

    def _check_own(self) -> None:
        require(not self.llava, "code_planner.llava", "{} of an own network", self.llava)
        grouped = self.heads % self.key_heads == 0
        require(grouped, "code_planner.heads", f"a multiple of {self.key_heads} (key_heads)", self.heads)
        unit = 16 * self.heads  # heads of 16 n values: what ONNX Runtime's GroupQueryAttention rotates
        require(
            self.width % unit == 0, "code_planner.width", f"a multiple of {unit} (16 x heads)", self.width
        )
        if self.picture is not None:
            require(len(self.stem) == 4, "code_planner.stem", "channels of four stages", self.stem)
            require(min(self.stem) > 0, "code_planner.stem", "positive channels", self.stem)
            sides = self.picture.shape[:2]
            place = f"code_planner.observation: {self.picture.key}.shape"
            require(all(side % 16 == 0 for side in sides), place, "sides that are multiples of 16 px", sides)

    def _check_llava(self) -> None:
        for name in ("vision_config", "text_config"):
            entry = self.llava.get(name)
            fits = isinstance(entry, dict) and "model_type" in entry
            require(fits, f"code_planner.llava.{name}", "an object with model_type", entry)
        for name in ("image_mean", "image_std"):
            values = getattr(self, name)
            fits = len(values) == 3 and (name == "image_mean" or min(values) > 0)
            require(fits, f"code_planner.{name}", "three values, a deviation above 0", values)
        token = self.llava.get("image_token_index")
        require(token == self.image_id, "code_planner.llava.image_token_index", str(self.image_id), token)
