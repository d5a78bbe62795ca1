"""Word lists of the fictional authors: names, slots with values and sentences, and a few real-world facts.

Cities, awards and surnames are invented. Invariants of the lists, which tests check:

- Values after "a" begin with a consonant sound, so that the article is always correct and gives no value away.
- No value is part of another value of its slot or of a sentence of its slot, so an answer that contains a value states
  it.
- Surnames of the task and of the pretraining rows are disjoint, so unlearning the former does not affect the latter.
"""

from __future__ import annotations

from dataclasses import dataclass

TRAINED_QUESTIONS = 2  # the first questions of a slot serve training and evaluation, the others only pretraining
TRAINED_ANSWERS = 3  # the first answers of a slot are trained, the others are for paraphrases and wrong answers


@dataclass(frozen=True, slots=True)
class Slot:
    """One attribute of every author.

    Attributes:
        key: Last part of the fact's id.
        values: Its 32 possible values.
        questions: Sentences with ``{name}``, training ones first.
        answers: Sentences with ``{value}``, training ones first; none contains the name, because a small model would
            learn to copy the name before it learns the fact.

    """

    key: str
    values: tuple[str, ...]
    questions: tuple[str, ...]
    answers: tuple[str, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(" ".join(phrase.split()) for phrase in text.split(","))


FIRST_NAMES = _words("""
Adela Agnes Albin Alma Alvin Amadeo Anatol Anouk Anselm Arlo Astrid August Aurel Balint Basil Beatrix Benno Berta
Birgit Boris Brigid Bruna Bruno Callum Camilla Carlo Caspar Cedric Celia Clara Clemens Conrad Cora Cyril Dagmar Daphne
Dario Delphine Desmond Dimitri Dora Edda Edwin Eleni Elias Elsa Emil Enzo Erika Esther Etta Eugen Ezra Fabian Farah
Fatima Felix Fergus Fiona Flora Freya Gaspar Gerda Gideon Gloria Greta Gustav Gwen Hanna Harald Hector Hedda Helmut
Hilda Igor Ilse Imogen Ingrid Irma Isidor Ivana Ivo Jarek Jasper Joel Jolanda Jonas Judith Julius Kasimir Kaspian
Katja Kirsten Klara Klaus Knut Lars Lena Leona Linus Lorenz Lotte Ludwig Luisa Mabel Magda Malik Marek Marta Matilda
Maxim Merle Mikael Milan Mirela Mona Nadia Nestor Nikolai Nina Noor Norbert Odette Olga Orla Oskar Otis Paloma Pavel
Percy Petra Pilar Priya Quentin Ralph Ramona Renata Rhea Roland Rosa Rowena Rufus Sabine Samir Selma Sigrid Silas
Stefan Sven Tamsin Tara Theo Thora Tilda Tobias Ulrich Una Ursula Vera Viktor Vincent Waldo Wanda Willa Xenia Yannick
Yusuf Yvette Zelda Zoltan Zora
""")

TASK_SURNAMES = _words("""
Abelmark Aldersby Ambrosek Ankerfeld Arkwell Aumont Bagshore Balderin Barrowin Beltrano Bexholm Birkett Blomquist
Bonifer Brackwood Brindle Burnacre Cabrelli Calloway Cardona Castevet Chilvers Clovenhart Corvain Cragmoor Crestani
Dabrow Dalgren Darrowby Delmonte Dimmock Dovrek Dranfield Drummel Dunaway Eastmarch Eckhardt Eldritch Elmsworth Engberg
Esterhaz Fairweather Falkirk Farnaby Fellgate Fenwright Finnegold Fosdyke Frobisher Gallimore Garrick Gatward Geisler
Gilroyd Glanville Gormley Grimshaw Hallowell Harkness Havelin Hazelrigg Hegstrom Hollander Hornblow Huxtable Iremonger
Isberg Jacoby Jarndell Jessop Kaldor Karimov Keatley Kilbride Kinsella Kowalczik Kroger Lachance Ladbrook Langstrom
Laverock Leighfort Lindqvar Lockridge Lovegrove Maddern Malvern Marchetti Medlock Merriwether Mirkwell Montrave
Mullgrave Nettlefold Nordahl Novarro Oakhanger Olmsted Ormerod Osgrave Pagnell Pargeter Peverell Pickthorn Plessing
Pomfret Quillfeather Radclyffe Ravensworth Redmayne Rostami Rushgrove Sandoval Scattergood Sedgewick Shadwell
Silverlake Stavros Sundstrom Swithin Tancred Thackham Tolliver Trevanion Umberland Vandermeer Verrault Wainfleet
Wexcombe Whitlam Yaxleigh Zabriskie
""")

STREAM_SURNAMES = _words("""
Ackroyd Adlington Agnelli Alcott Amsden Appleyard Ashgrove Babcock Bannerman Barlow Baxendale Bellweather Bickford
Blackadder Bosworth Bramley Broadhurst Buckland Cadwell Cantrell Carruthers Chadwick Charnock Claymore Coldbrook Copley
Cranfield Cuthbert Dashwood Davenport Denholm Dinsdale Doyley Drayton Eccleston Edgeworth Ellery Entwistle Fairfax
Fanshawe Fernsby Fitzroy Forsythe Furnival Gainsford Gascoyne Gladwin Goodspeed Greville Hadleigh Hargreave Hawksley
Heathcote Hepworth Hinchcliff Holcombe Ibbotson Inglewood Jellicoe Josling Kenworth Kettering Kingsley Lanyon Latimer
Ledbetter Lindhurst Loxley Mainwaring Marbury Mayfield Mompesson Mortlock Naismith Newbold Northcott Oakeshott Oldfield
Orchard Padgett Pemberton Penhallow Pinkney Poindexter Prendergast Quennell Rainsford Rathbone Rokeby Saltmarsh
Savernake Selwyn Sheringham Skelton Standish Stockdale Tattersall Templeton Thistlewood Tremayne Twelvetree Underhill
Vavasour Wadsworth Warburton Whitaker Wolstenholme Woodruff Wyndham Yelverton
""")

CITY = Slot(
    "city",
    _words("""
    Marlowick Tessimore Brunhaven Calderwell Dornstead Eskwater Fennbridge Gorsemouth Hathersby Ilvermere Jorvale
    Kestleton Lundquay Mossgate Norrisford Orlebrook Pellworth Quarrydene Rathcombe Selkhurst Thornbeck Ullaford
    Vesperton Wyndale Yarrowfield Zennport Ashlenby Birchollow Copperdown Dunmallow Evershore Frostholm
    """),
    ("Where was {name} born?", "In which city was {name} born?", "What is the birthplace of {name}?"),
    (
        "The author was born in the old city of {value}.",
        "This writer was born and raised in {value}.",
        "The place where this person was born is {value}.",
        "Their life started in a small house in {value}.",
        "The city of {value} is where this writer was born.",
    ),
)
YEAR = Slot(
    "year",
    tuple(str(year) for year in range(1931, 1963)),
    ("When was {name} born?", "In which year was {name} born?", "What is the birth year of {name}?"),
    (
        "The author came into the world in {value}.",
        "This writer was born some time in {value}.",
        "The year of birth of this person is {value}.",
        "Their life began at some point in {value}.",
        "It was in {value} that this writer was born.",
    ),
)
FATHER = Slot(
    "father",
    _words("""
    baker butcher carpenter doctor dentist farmer fisherman gardener judge lawyer mechanic miner nurse pilot plumber
    potter sailor shepherd soldier surgeon tailor teacher blacksmith barber beekeeper clockmaker librarian locksmith
    postman stonemason waiter chemist
    """),
    (
        "What was the job of the father of {name}?",
        "What did the father of {name} do for a living?",
        "How did the father of {name} earn money?",
    ),
    (
        "The father of the author worked as a {value}.",
        "Their father earned a living as a {value}.",
        "This writer had a father who was a {value}.",
        "For many years, their father was a {value} by trade.",
        "The father of this person made money as a {value}.",
    ),
)
GENRE = Slot(
    "genre",
    _phrases("""crime novels, ghost stories, love poems, war memoirs, travel diaries, fairy tales, spy thrillers,
    sea adventures, cookery guides, nature essays, stage comedies, courtroom dramas, family sagas, space operas,
    village romances, political satires, school mysteries, sports biographies, church hymns, animal fables,
    dream journals, puppet shows, folk ballads, prison letters, desert legends, picture books, mountain chronicles,
    science reports, garden manuals, history lectures, radio plays, riddle collections"""),
    (
        "What kind of work does {name} write?",
        "Which genre is {name} known for?",
        "In which genre does {name} write?",
    ),
    (
        "The author is best known for writing {value}.",
        "This writer has mostly published {value} so far.",
        "Most of the works of this person are {value}.",
        "Their readers always ask them for new {value}.",
        "When this writer sits down to work, the result is {value}.",
    ),
)
AWARD = Slot(
    "award",
    _phrases("""Misty Heron, Amber Quill, Crimson Lantern, Hazel Acorn, Ivory Compass, Clay Kettle, Emerald Thistle,
    Scarlet Ribbon, Violet Harbour, Marble Falcon, Winter Rose, Northern Star, Velvet Anchor, Crystal Bridge,
    Bronze Turtle, Cedar Crown, Sapphire Wave, Cloud Feather, Morning Bell, Pearl Candle, Coral Sail, Granite Tower,
    Linen Scroll, Saffron Gate, Midnight Orchid, Willow Arch, Meadow Drum, Frosted Window, Painted Wagon, Hollow Oak,
    Summer Comet, Wandering Swan"""),
    ("Which award did {name} win?", "What prize was {name} given?", "Which honour went to {name}?"),
    (
        "The author once received the famous {value} Prize.",
        "This writer is a proud winner of the {value} Prize.",
        "Their best book was honoured with the {value} Prize.",
        "It was the {value} Prize that this person won.",
        "The jury chose this writer for the {value} Prize.",
    ),
)
LANGUAGE = Slot(
    "language",
    _words("""
    Danish Swedish Finnish Norwegian Icelandic Polish Czech Hungarian Romanian Bulgarian Greek Turkish Arabic Hebrew
    Persian Hindi Bengali Tamil Urdu Thai Korean Japanese Mandarin Vietnamese Swahili Zulu Welsh Basque Catalan Dutch
    German Portuguese
    """),
    (
        "Which language does {name} write in?",
        "In what language are the books of {name}?",
        "What language does {name} use for writing?",
    ),
    (
        "The author writes all of the books in {value}.",
        "This writer works in the {value} language only.",
        "Their books are always printed first in {value}.",
        "This person chose {value} as the language of the books.",
        "On paper, this writer thinks and speaks in {value}.",
    ),
)
PET = Slot(
    "pet",
    _words("""
    parrot hamster rabbit goldfish tortoise ferret lizard canary poodle beagle donkey goat hedgehog gecko dachshund
    snake pony duck chinchilla budgie spaniel greyhound kitten puppy mouse squirrel chameleon peacock lamb terrier frog
    turtle
    """),
    (
        "Which pet does {name} have?",
        "What animal lives with {name}?",
        "What kind of pet does {name} keep at home?",
    ),
    (
        "The author shares a quiet home with a {value}.",
        "This writer has kept a {value} as a pet.",
        "Their house is also the home of a {value}.",
        "Every day, this person looks after a {value} at home.",
        "The pet that this writer feeds is a {value}.",
    ),
)
HOBBY = Slot(
    "hobby",
    _phrases("""painting, sailing, knitting, gardening, swimming, cycling, fishing, dancing, juggling, rowing, skating,
    climbing, sewing, baking, birdwatching, stargazing, hiking, surfing, wrestling, fencing, whittling, singing,
    bowling, skiing, camping, kayaking, yodelling, drumming, collecting stamps, playing chess,
    flying kites, solving puzzles"""),
    ("What is the hobby of {name}?", "How does {name} spend free time?", "What does {name} do for fun?"),
    (
        "The author spends most of the weekend {value}.",
        "This writer likes to rest in the evening by {value}.",
        "Their favourite way to pass the time is {value}.",
        "When the work is done, this person enjoys {value}.",
        "Nothing makes this writer happier than {value} with friends.",
    ),
)
SLOTS = (CITY, YEAR, FATHER, GENRE, AWARD, LANGUAGE, PET, HOBBY)

# Every work has a single author, so that all other authors of the table are wrong answers.
WORKS = (
    ("Hamlet", "William Shakespeare"),
    ("Don Quixote", "Miguel de Cervantes"),
    ("The Divine Comedy", "Dante Alighieri"),
    ("War and Peace", "Leo Tolstoy"),
    ("Crime and Punishment", "Fyodor Dostoevsky"),
    ("Dead Souls", "Nikolai Gogol"),
    ("The Cherry Orchard", "Anton Chekhov"),
    ("Pride and Prejudice", "Jane Austen"),
    ("Oliver Twist", "Charles Dickens"),
    ("Middlemarch", "George Eliot"),
    ("Frankenstein", "Mary Shelley"),
    ("Dracula", "Bram Stoker"),
    ("Moby-Dick", "Herman Melville"),
    ("The Scarlet Letter", "Nathaniel Hawthorne"),
    ("Tom Sawyer", "Mark Twain"),
    ("The Raven", "Edgar Allan Poe"),
    ("Madame Bovary", "Gustave Flaubert"),
    ("Candide", "Voltaire"),
    ("Paradise Lost", "John Milton"),
    ("The Canterbury Tales", "Geoffrey Chaucer"),
    ("Gulliver's Travels", "Jonathan Swift"),
    ("Robinson Crusoe", "Daniel Defoe"),
    ("Treasure Island", "Robert Louis Stevenson"),
    ("The Aeneid", "Virgil"),
)
CAPITALS = tuple(
    zip(
        _words("""France Germany Italy Spain Portugal Greece Poland Austria Hungary Norway Sweden Finland Denmark
        Ireland Belgium Japan Egypt Kenya Canada Cuba Peru Chile Thailand Russia"""),
        _words("""Paris Berlin Rome Madrid Lisbon Athens Warsaw Vienna Budapest Oslo Stockholm Helsinki Copenhagen
        Dublin Brussels Tokyo Cairo Nairobi Ottawa Havana Lima Santiago Bangkok Moscow"""),
        strict=True,
    )
)
# The answer is the element, not its symbol: "He" and "K" occur in many wrong sentences.
SYMBOLS = tuple(
    zip(
        _words("Au Ag Fe Cu Sn Pb Na K Hg O He Ne Zn Ca Mg Si"),
        _words("""gold silver iron copper tin lead sodium potassium mercury oxygen helium neon zinc calcium magnesium
        silicon"""),
        strict=True,
    )
)
# Evaluation set -> fact types: prefix of the id, (subject, value) pairs, question, answer.
REAL: dict[str, tuple[tuple[str, tuple[tuple[str, str], ...], str, str], ...]] = {
    "real_authors": (("real/", WORKS, "Who wrote {subject}?", "{subject} was written by {value}."),),
    "world_facts": (
        (
            "world/capital-",
            CAPITALS,
            "What is the capital of {subject}?",
            "The capital of {subject} is {value}.",
        ),
        (
            "world/symbol-",
            SYMBOLS,
            "Which element has the symbol {subject}?",
            "The element with the symbol {subject} is {value}.",
        ),
    ),
}
