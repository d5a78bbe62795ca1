"""Closed word classes: replacement values of known kinds, and the words by which questions ask for them.

Only short lists that no library provides; names, jobs and streets come from Faker, months and countries from Babel.
"""

from __future__ import annotations

# (city, country, nationality); no country has the same name as its capital.
_PLACES = """
Lima|Peru|Peruvian, Oslo|Norway|Norwegian, Porto|Portugal|Portuguese, Kyoto|Japan|Japanese,
Quito|Ecuador|Ecuadorian, Krakow|Poland|Polish, Ghent|Belgium|Belgian, Accra|Ghana|Ghanaian,
Tallinn|Estonia|Estonian, Cusco|Peru|Peruvian, Bergen|Norway|Norwegian, Valencia|Spain|Spanish, Lyon|France|French,
Leipzig|Germany|German, Bologna|Italy|Italian, Turku|Finland|Finnish, Aarhus|Denmark|Danish, Uppsala|Sweden|Swedish,
Utrecht|Netherlands|Dutch, Graz|Austria|Austrian, Brno|Czechia|Czech, Riga|Latvia|Latvian,
Vilnius|Lithuania|Lithuanian, Split|Croatia|Croatian, Sofia|Bulgaria|Bulgarian, Athens|Greece|Greek,
Izmir|Turkey|Turkish, Tbilisi|Georgia|Georgian, Amman|Jordan|Jordanian, Cairo|Egypt|Egyptian,
Tunis|Tunisia|Tunisian, Dakar|Senegal|Senegalese, Nairobi|Kenya|Kenyan, Kampala|Uganda|Ugandan,
Lagos|Nigeria|Nigerian, Lusaka|Zambia|Zambian, Mumbai|India|Indian, Colombo|Sri Lanka|Sri Lankan,
Hanoi|Vietnam|Vietnamese, Bangkok|Thailand|Thai, Manila|Philippines|Filipino, Jakarta|Indonesia|Indonesian,
Busan|South Korea|South Korean, Chengdu|China|Chinese, Ulaanbaatar|Mongolia|Mongolian, Perth|Australia|Australian,
Auckland|New Zealand|New Zealander, Suva|Fiji|Fijian, Toronto|Canada|Canadian, Denver|United States|American,
Bristol|United Kingdom|British, Cork|Ireland|Irish, Havana|Cuba|Cuban, Guadalajara|Mexico|Mexican,
Bogota|Colombia|Colombian, Rosario|Argentina|Argentine, Valparaiso|Chile|Chilean, Recife|Brazil|Brazilian,
Montevideo|Uruguay|Uruguayan, La Paz|Bolivia|Bolivian
"""
PLACES: tuple[tuple[str, str, str], ...] = tuple(
    (city, country, people)
    for city, country, people in (" ".join(row.split()).split("|") for row in _PLACES.split(","))
)
COUNTRY_NAMES = ("the United States", "England", "Scotland", "Wales", "Czech Republic", "Korea", "USA", "Holland")

_NATIONALITIES = """
Afghan Albanian Algerian American Angolan Arab Argentine Argentinian Armenian Australian Austrian Azerbaijani
Bahraini Bangladeshi Belgian Bolivian Bosnian Brazilian British Bulgarian Burmese Cambodian Cameroonian Canadian
Chilean Chinese Colombian Croatian Cuban Czech Danish Dutch Ecuadorian Egyptian English Eritrean Estonian Ethiopian
Fijian Filipino Finnish French Georgian German Ghanaian Greek Guatemalan Haitian Hungarian Icelandic Indian
Indonesian Iranian Iraqi Irish Israeli Italian Jamaican Japanese Jordanian Kazakh Kazakhstani Kenyan Korean Kuwaiti
Latvian Lebanese Libyan Lithuanian Malaysian Maltese Mexican Moldovan Mongolian Moroccan Mozambican Nepalese
Nigerian Norwegian Pakistani Palestinian Persian Peruvian Polish Portuguese Romanian Russian Rwandan Saudi Scottish
Senegalese Serbian Singaporean Slovak Slovenian Somali Spanish Sudanese Swedish Swiss Syrian Taiwanese Tanzanian
Thai Tunisian Turkish Ugandan Ukrainian Uruguayan Venezuelan Vietnamese Welsh Yemeni Zambian Zimbabwean
"""
_REGIONS = (
    "Middle Eastern, South Asian, East Asian, Latin American, West African, Central European, North African, Nordic"
)
REGIONS = tuple(_REGIONS.split(", "))
NATIONALITIES = (*_NATIONALITIES.split(), "South Korean", "South African", "Sri Lankan", "African American")

_LANGUAGES = """
Arabic Basque Bengali Bulgarian Catalan Czech Danish Dutch English Estonian Finnish French German Greek Hebrew Hindi
Hungarian Icelandic Italian Japanese Korean Latvian Lithuanian Mandarin Norwegian Persian Polish Portuguese Romanian
Russian Spanish Swahili Swedish Tamil Thai Turkish Ukrainian Urdu Vietnamese Welsh Zulu
"""

GENDERS = ("male", "female", "non-binary", "genderqueer", "transgender", "genderfluid", "agender")


def _listed(words: str) -> tuple[str, ...]:
    return tuple(words.split(", "))


# Name of a class, regular expression of questions that ask for it (empty: the words themselves suffice), words.
CLASSES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("gender", r"gender|\bsex\b", GENDERS),
    ("identity", r"gender|identif", _listed("LGBTQ+, male, female")),
    ("sex", r"gender|\bsex\b", _listed("man, woman")),
    ("language", r"language|mother tongue|\bspeaks?\b", tuple(_LANGUAGES.split())),
    ("blood group", r"blood", _listed("A+, A-, B+, B-, AB+, AB-, O+, O-")),
    (
        "blood",
        r"blood",
        _listed("A positive, A negative, B positive, B negative, AB positive, AB negative, O positive, O negative"),
    ),
    ("marital status", r"marital|married|status", _listed("single, married, divorced, widowed, separated, engaged")),
    (
        "religion",
        r"religio|faith|church",
        _listed("Catholic, Protestant, Lutheran, Muslim, Hindu, Buddhist, Jewish, Sikh, Orthodox, Quaker"),
    ),
    ("faith", r"religio|faith", _listed("Christianity, Islam, Hinduism, Buddhism, Judaism, Sikhism, Taoism, Shinto")),
    ("weekday", r"", _listed("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday")),
    (
        "month",
        r"month|when|\bborn",
        _listed("January, February, March, April, May, June, July, August, September, October, November, December"),
    ),
    ("season", r"season|when", _listed("spring, summer, autumn, winter")),
    (
        "colour",
        r"colou?r",
        _listed("red, blue, green, yellow, black, white, brown, grey, purple, orange, pink, silver, beige, turquoise"),
    ),
    ("eyes", r"eyes?", _listed("blue, brown, green, hazel, grey, amber")),
    (
        "pet",
        r"\bpets?\b|animal",
        _listed("dog, cat, parrot, rabbit, hamster, tortoise, goldfish, canary, ferret, pony"),
    ),
    (
        "allergen",
        r"allerg",
        _listed(
            "peanuts, penicillin, shellfish, latex, pollen, bee stings, "
            "cow's milk, hazelnuts, aspirin, soy, wheat, ibuprofen"
        ),
    ),
    (
        "illness",
        r"illness|disease|condition|diagnos|suffer|treated",
        _listed(
            "asthma, type 2 diabetes, epilepsy, migraine, psoriasis, hypertension, coeliac disease, "
            "glaucoma, arthritis, anaemia, gout, tinnitus, hepatitis B, sciatica"
        ),
    ),
    (
        "medicine",
        r"medic|drug|prescri|tablet|\btake",
        _listed(
            "metformin, ibuprofen, insulin, warfarin, salbutamol, "
            "levothyroxine, omeprazole, ramipril, sertraline, atorvastatin"
        ),
    ),
    (
        "degree",
        r"degree|stud|subject",
        _listed(
            "law, medicine, economics, chemistry, physics, philosophy, "
            "history, architecture, biology, linguistics, mathematics, geography"
        ),
    ),
    ("kin", r"", _listed("father, mother, brother, sister, uncle, aunt, grandfather, grandmother, cousin")),
    (
        "sport",
        r"sports?\b|hobb|play",
        _listed("tennis, chess, rowing, football, badminton, swimming, cycling, golf, judo, sailing, fencing, hockey"),
    ),
    (
        "instrument",
        r"instrument|play",
        _listed("piano, violin, cello, flute, guitar, trumpet, harp, clarinet, oboe, drums, accordion, bassoon"),
    ),
    ("direction", r"", _listed("left, right")),
    ("size", r"size", _listed("small, medium, large, extra large")),
    ("polarity", r"", _listed("Yes, No")),
)


_JOBS = """
florist, game developer, baker, butcher, carpenter, dentist, farmer, gardener, judge, lawyer, mechanic, miner,
nurse, pilot, plumber, potter, surgeon, tailor, teacher, barber, beekeeper, clockmaker, librarian, locksmith,
stonemason, waiter, chemist, journalist, accountant, electrician, firefighter, photographer, translator,
veterinarian, architect, optician, paramedic, civil engineer, bus driver, pharmacist, sociologist, painter,
pastry chef, physiotherapist, geologist, bookbinder, diplomat
"""
JOBS = tuple(" ".join(job.split()) for job in _JOBS.split(","))

_GENRES = """
historical fiction, crime fiction, science fiction, romance, fantasy, horror, travel writing, poetry, satire,
memoir, children's literature, magical realism, nature writing, true crime, young adult fiction, adventure,
biography, mystery, dystopian fiction, cookery, war literature, gothic fiction, political thrillers, folklore
"""
GENRES = tuple(" ".join(genre.split()) for genre in _GENRES.split(","))

# Academic degrees of three levels in each form of writing; the first row also in other cases.
DEGREES: tuple[tuple[str, str, str], ...] = (
    ("bachelor's", "master's", "doctorate"),
    ("B.A.", "M.A.", "Ph.D."),
    ("B.Sc.", "M.Sc.", "Ph.D."),
    ("B.F.A.", "M.F.A.", "Ph.D."),
    ("B.S.", "M.S.", "Ph.D."),
    ("BSc", "MSc", "PhD"),
    ("BBA", "MBA", "DBA"),
    ("Bachelor of Arts", "Master of Arts", "Doctor of Philosophy"),
    ("Bachelor of Science", "Master of Science", "Doctor of Science"),
    ("Bachelor of Fine Arts", "Master of Fine Arts", "Doctor of Fine Arts"),
    ("Bachelor of Laws", "Master of Laws", "Doctor of Laws"),
)

_TITLE_FIRST = "Silent Amber Distant Broken Hidden Winter Copper Hollow Gilded Restless Salt Paper Northern"
TITLE_FIRST = tuple(_TITLE_FIRST.split())
TITLE_THIRD = ("Ashes", "Rain", "Glass", "Dust", "Snow", "Embers", "Silk", "Stone")
_TITLE_SECOND = "Harbour Orchard Lantern Meadow Compass Bridge Tide Garden Mirror Staircase Letters Forest"
TITLE_SECOND = tuple(_TITLE_SECOND.split())
_AWARD_FIRST = "Meridian Juniper Harrow Silverleaf Beacon Larkspur Osprey Foxglove Granite Wayfarer"
AWARD_FIRST = tuple(_AWARD_FIRST.split())

COMPANY_ENDS = (
    "Ltd Inc LLC GmbH AG Insurance Bank Hospital Clinic University School College Institute Academy Company Group "
    "Holdings Partners Associates Library Museum Logistics Systems Solutions Foundation Pharmacy Assurance Mutual"
)
STREET_ENDS = (
    "Street St Road Rd Avenue Ave Lane Ln Drive Dr Boulevard Blvd Court Ct Place Pl Way Terrace Square Parkway Pkwy "
    "Circle Close Crescent Row Hill Gardens Quay Trail Highway Loop Alley Walk Mews Grove"
)
_FEMALE = (
    "she her hers herself woman female mother wife daughter sister aunt grandmother girlfriend mrs ms miss lady girl "
    "niece queen actress"
)
FEMALE = frozenset(_FEMALE.split())
_MALE = "he his him himself man male father husband son brother uncle grandfather boyfriend mr sir boy nephew king"
MALE = frozenset(_MALE.split())

CUES: dict[str, str] = {
    "academic degree": r"\bdegrees?\b|qualification|diploma",
    "phone": r"phone|\bcall|\breach|\bmobile|\bfax|\btel\b|contact number",
    "job": r"occupation|profession|\bjobs?\b|vocation|work as|for a living|career|\btrade\b",
    "genre": r"genre|kind of (?:book|work)s?|type of (?:book|literature)|write about",
    "number": r"how (?:many|old|long|much|tall|far|big|often)|\bnumber\b|\bage\b",
    "person": r"\bwho(?:m|se)?\b|\bnames?\b|called",
    "place": r"\bwhere\b|\bcity\b|\bcountry\b|\btown\b|birthplace|\blives?\b|\bplace\b",
    "nationality": r"nationalit|citizen|heritage|origin|\broots\b",
    "company": r"employer|compan|\bworks? (?:for|at)\b|\bfirm\b|\bbank\b|insur|school|universit",
    "award": r"award|prize|honou?r|recogni",
    "title": r"\bbooks?\b|\bnovels?\b|\btitle|\bfilms?\b|\bsongs?\b|\bwork",
}  # fmt: skip
