"""The closed vocabulary of EdgeScenes and its word tokenizer."""

PAD, BOS, EOS = 0, 1, 2

NUMBERS = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
)
COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan")
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
TIMBRES = ("bell", "drum", "horn", "whistle", "flute")
PITCHES = ("low", "middle", "high")
DIRECTIONS = ("left", "right", "up", "down", "nowhere")

_SPECIAL = ("<pad>", "<bos>", "<eos>")
_OTHER = (
    *("yes", "no", "none", "top", "bottom", "a", "then"),
    *("what", "which", "how", "where", "is", "are", "the", "of", "in", "on", "has"),
    *("there", "many", "things", "thing", "shape", "colour", "covers", "largest"),
    *("smallest", "area", "digit", "row", "column", "at", "tall", "bar", "tallest"),
    *("shortest", "number", "sign", "read", "lesion", "tissue", "show", "tone"),
    *("tones", "pitch", "do", "you", "hear", "makes", "sound", "sounding", "did"),
    *("move", "way", "comes", "after", "before", "sides", "opposite", "describe"),
    *("picture", "list", "all", "count", "name"),
)
WORDS = (
    *_SPECIAL,
    *NUMBERS,
    *COLOURS,
    *SHAPES,
    *TIMBRES,
    *PITCHES,
    *DIRECTIONS,
    *_OTHER,
)
"""Every word, in the order of its id."""

_IDS = {word: i for i, word in enumerate(WORDS)}
if len(_IDS) != len(WORDS):
    raise AssertionError("the vocabulary names a word twice")


def encode(text: str) -> list[int]:
    """Word ids of a text; raises ValueError naming a word that is not known.

    >>> decode(encode("how many red things are there"))
    'how many red things are there'
    """
    try:
        return [_IDS[word] for word in text.split()]
    except KeyError as error:
        raise ValueError(
            f"{error.args[0]!r} is not in the vocabulary of EdgeScenes; "
            "m3jax.data.edgescenes.words.WORDS lists the words it knows"
        ) from None


def decode(ids) -> str:
    """Text of word ids, up to the first EOS and without padding."""
    out = []
    for i in ids:
        if i == EOS:
            break
        if i not in (PAD, BOS):
            out.append(WORDS[i])
    return " ".join(out)
