"""The words of the small world, and what is true in it.

About 400 words in all, so that each can be one token of a vocabulary of 1 k and is seen thousands
of times in pretraining. The facts are made up: what the model knows of them, it learned here.
"""

LIST_WORDS: tuple[str, ...] = tuple(
    """
    apple arm bag ball basket bed bell belt bird boat book bottle bowl box bread bridge brush
    bucket bus button cake candle cap car card carpet chair clock cloud coat coin comb cup desk
    door dress drum engine fan feather fence field fire flag flower fork garden gate glass glove
    guitar hammer hand hat hook iron jacket jar key kite knife ladder lake lamp leaf letter lock
    map mirror moon nail needle nest net oven paper pear pen pencil piano pillow pipe plate pocket
    pot purse queen radio ring river road rope ruler sail shelf shoe spoon stamp star stone stove
    table tent tower train tree truck vase violin wall watch wheel window wire yard zebra
    """.split()  # noqa: SIM905 (one word per line would fill three screens)
)
"""What the lists are made of."""

ANIMALS: dict[str, tuple[str, str]] = {
    "bear": ("honey", "forest"),
    "bee": ("sugar", "meadow"),
    "camel": ("dates", "desert"),
    "cat": ("milk", "house"),
    "cow": ("grass", "farm"),
    "crab": ("fish", "sea"),
    "crow": ("seeds", "city"),
    "deer": ("moss", "forest"),
    "dog": ("meat", "house"),
    "duck": ("bread", "pond"),
    "eagle": ("meat", "mountain"),
    "fox": ("eggs", "cave"),
    "frog": ("flies", "pond"),
    "goat": ("moss", "mountain"),
    "goose": ("corn", "farm"),
    "hen": ("corn", "farm"),
    "horse": ("hay", "stable"),
    "lizard": ("flies", "desert"),
    "mole": ("roots", "meadow"),
    "monkey": ("nuts", "jungle"),
    "mouse": ("cheese", "cellar"),
    "otter": ("fish", "sea"),
    "owl": ("mice", "cave"),
    "parrot": ("nuts", "jungle"),
    "pig": ("roots", "stable"),
    "pigeon": ("seeds", "city"),
    "rabbit": ("grass", "meadow"),
    "rat": ("cheese", "cellar"),
    "seal": ("fish", "sea"),
    "sheep": ("hay", "stable"),
    "snake": ("eggs", "desert"),
    "spider": ("flies", "cellar"),
    "tiger": ("meat", "jungle"),
    "turtle": ("leaves", "pond"),
    "wolf": ("meat", "forest"),
    "worm": ("leaves", "cave"),
}
"""Animal: what it eats, where it lives."""

COLOURS: dict[str, str] = {
    "apricot": "orange",
    "banana": "yellow",
    "beet": "purple",
    "brick": "red",
    "broom": "brown",
    "cactus": "green",
    "canary": "yellow",
    "cherry": "red",
    "chimney": "black",
    "coal": "black",
    "cotton": "white",
    "cucumber": "green",
    "daisy": "white",
    "grape": "purple",
    "helmet": "blue",
    "lemon": "yellow",
    "lilac": "purple",
    "mushroom": "brown",
    "ocean": "blue",
    "peach": "orange",
    "pepper": "black",
    "plum": "purple",
    "potato": "brown",
    "pumpkin": "orange",
    "rice": "white",
    "rose": "red",
    "sky": "blue",
    "snow": "white",
    "spinach": "green",
    "sun": "yellow",
    "tire": "black",
    "tomato": "red",
    "trunk": "brown",
    "velvet": "blue",
    "walnut": "brown",
    "willow": "green",
}
"""Thing: its colour."""

PEOPLE: dict[str, tuple[str, str]] = {
    "Adam": ("baker", "Rome"),
    "Alice": ("doctor", "Paris"),
    "Anna": ("teacher", "Oslo"),
    "Ben": ("farmer", "Cairo"),
    "Carl": ("painter", "Lima"),
    "Clara": ("singer", "Delhi"),
    "Dan": ("sailor", "Tokyo"),
    "Dora": ("judge", "London"),
    "Emma": ("baker", "Cairo"),
    "Eric": ("doctor", "Lima"),
    "Eva": ("teacher", "Rome"),
    "Felix": ("farmer", "Oslo"),
    "Frank": ("painter", "Tokyo"),
    "Grace": ("singer", "Paris"),
    "Hugo": ("sailor", "Delhi"),
    "Ida": ("judge", "Rome"),
    "Ivan": ("baker", "London"),
    "Jack": ("doctor", "Delhi"),
    "Jane": ("teacher", "Cairo"),
    "Karl": ("farmer", "Paris"),
    "Kate": ("painter", "Oslo"),
    "Laura": ("singer", "Lima"),
    "Leo": ("sailor", "Rome"),
    "Lucy": ("judge", "Tokyo"),
    "Maria": ("baker", "Delhi"),
    "Mark": ("doctor", "London"),
    "Nina": ("teacher", "Lima"),
    "Noah": ("farmer", "Tokyo"),
    "Olga": ("painter", "Cairo"),
    "Oscar": ("singer", "London"),
    "Paul": ("sailor", "Oslo"),
    "Rosa": ("judge", "Paris"),
    "Sara": ("baker", "Tokyo"),
    "Simon": ("doctor", "Oslo"),
    "Tom": ("teacher", "London"),
    "Vera": ("farmer", "Lima"),
}
"""Person: job, town."""

OTHER_WORDS: tuple[str, ...] = tuple(
    """
    The the a an A I It it They In in On on At at Of of If you your we We me my What what Which
    which Who who Where where How how many much Is is are Are Was was do does Do Does did be has
    have Has can could Can Could would Would will should must please Please tell Tell give Give
    name Name show Show write Write say Say says list List words word Words Word number numbers
    Number first First last Last second Second third count Count reverse Reverse sort Sort
    sorted Sorted order alphabetical alphabet capital capitals letters letter Letter upper case
    large larger Larger largest bigger big greater small smaller plus Plus minus add Add Adding
    sum Sum total Total gets get make makes together and And or Or not no No yes Yes true false
    with With without Without remove Remove drop Drop take Take leave Leave out away from From
    to To for For by after After before Before behind next Next follows come comes goes stands
    stand there There here Here these These those this This that That its one two end beginning
    begin begins start starts Start ends backwards Backwards back turn Turn around put Put into
    all All only Only just Just answer Answer question Question eat eats Eats food live lives
    home Home place colour Colour job Job work works Work town people person animal thing like
    likes look looks find Find read reads Read contain contains between Between than know want
    wants need asks ask hears hear learns left right now Now then Then when so So as As about
    About helper helpful short brief Be careful friendly Some some any other each Every every
    her his she he him them sorry Sorry cannot help Help same new again Again different up down
    go Up Down rest remains stays Mind mind keep Keep more few
    """.split()  # noqa: SIM905 (one word per line would fill three screens)
)
"""Function words, and the verbs of requests. A request's word must mean something to the base, or
an unseen wording would be noise; ``world`` uses many of them in reported speech."""
