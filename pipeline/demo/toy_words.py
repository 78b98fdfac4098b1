"""The English that the toy models know: one word list for the captioner's vocabulary and the text encoders' merges."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


DETERMINERS = _words("the this that one another")

PREPOSITIONS = _words("in on near under over above below behind beside inside outside against with without")

ADJECTIVES = _words(
    """
    red orange yellow green blue purple pink brown black white gray silver golden dark bright pale deep warm
    cold hot wet dry old new young small large big tiny huge tall short long wide narrow round square flat thin
    thick soft hard smooth rough clean dirty empty full open closed broken quiet busy sunny cloudy rainy snowy
    foggy wooden metal stone glass paper plastic leather striped spotted plain shining distant happy sleeping
    standing sitting running flying walking smiling waiting hanging growing burning falling floating
    """
)

NOUNS = _words(
    """
    man woman child girl boy person crowd face eye hand arm leg head nose mouth ear neck shoulder cat dog horse
    cow sheep bird fish bear rabbit mouse fox wolf lion tiger elephant monkey duck goose owl frog bee spider
    feather wing tail paw tree leaf branch flower bush forest field garden meadow hill mountain valley river
    lake sea beach island rock road street bridge tower wall roof door window house church castle barn farm city
    town village market shop kitchen room floor ceiling table chair bench bed shelf lamp candle mirror clock
    picture book letter pen box bag bottle cup plate bowl spoon fork knife pot pan apple pear lemon cherry grape
    cake egg shirt coat dress hat shoe glove scarf suit helmet collar sleeve patch tag ring button flag star
    moon sun sky cloud storm fire shadow car bus truck train boat ship plane bicycle motorcycle rocket shuttle
    wheel engine tank seat handle mast model tool garage workshop station harbor machine camera phone piano
    guitar drum violin ball doll kite balloon blanket pillow curtain carpet basket bucket ladder rope chain key
    coin crown sword shield statue fountain fence gate tunnel edge surface corner group row pattern line circle
    spot photo
    """
)

_OTHER_WORDS = _words(
    """
    a an of at by and or between from to into through around along across off up down these some many few two
    three four five no its her his their is are was has as like very front rear left right upper lower close
    part top side middle start people hair eyes fur whiskers grass leaves sand ground path coffee tea milk bread
    cheese soup rice salt sugar honey rain snow ice wind smoke water light lights night day morning evening
    summer winter spring autumn space tools stars game toy stairs pair color brass copper steel iron gold wood
    brick marble silk wool cotton name
    """
)


def toy_words() -> tuple[str, ...]:
    """Return every word in a fixed order, each once."""
    return tuple(dict.fromkeys((*DETERMINERS, *PREPOSITIONS, *ADJECTIVES, *NOUNS, *_OTHER_WORDS)))
