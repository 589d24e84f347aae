"""Word material of the corpus: everything here is written for this project."""

WORDS = """
apple river stone candle window garden bottle mirror basket ladder hammer pencil ribbon feather pocket blanket kettle lantern
button saddle anchor bridge castle forest meadow island harbor valley desert canyon glacier thunder shadow whisper silver copper
marble velvet cotton leather timber gravel pepper ginger butter honey sugar cherry orange lemon melon carrot onion potato tomato
pumpkin spinach walnut almond bread cheese coffee pillow carpet curtain drawer table chair shelf clock phone camera guitar violin
trumpet drum piano flute painter baker doctor sailor farmer teacher writer driver pilot singer dancer hunter miner tailor rabbit
tiger lion horse sheep goat duck goose eagle falcon sparrow pigeon turtle dolphin whale shark salmon spider beetle butterfly dragon
wizard knight castle crown sword shield arrow banner temple tower village market street school hospital library museum station
airport engine rocket planet comet galaxy orbit ocean beach wave storm cloud rain snow wind summer winter spring autumn morning
evening midnight yellow purple green brown black white golden bright gentle quiet hidden ancient simple clever brave honest patient
curious hungry sleepy angry happy lonely famous modern narrow broken frozen burning flying running singing dancing walking reading
writing cooking paint plant build carry follow gather listen measure number paper letter story puzzle secret signal system memory
message journey kitchen bedroom hallway balcony chimney cellar attic fence gate path trail tunnel wagon bicycle boat ship train truck
tractor balloon kite marble whistle drumbeat echo rhythm melody color shape circle square triangle corner center border circuit
battery magnet needle thread fabric jacket sweater gloves boots socks helmet goggles compass map flag tent rope shovel bucket barrel
crate parcel envelope stamp coin purse wallet ticket badge medal trophy prize lamp torch match spark flame smoke ashes dust sand
clay brick tile glass steel iron bronze crystal diamond emerald ruby pearl amber ivory coral shell pebble boulder cliff cave spring
stream pond lake waterfall marsh prairie jungle orchard vineyard barn stable mill forge bakery tavern cottage palace fortress prison
bishop queen prince captain soldier guard thief merchant beggar poet monk nurse judge lawyer clerk cook maid gardener carpenter mason
""".split()
WORDS = sorted(set(WORDS))

NAMES = """Mia Leo Nora Finn Ada Theo Ivy Max Lena Omar Rosa Hugo Clara Felix Maya Jonas Ella Sam Tara Ben Zoe Paul Anna Karl Lucy Emil
Nina Oscar Alma Peter Vera Milo Ruth Simon Iris Anton Greta Noah Sofia Victor""".split()

CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Portugal": "Lisbon", "England": "London",
    "Ireland": "Dublin", "Scotland": "Edinburgh", "Norway": "Oslo", "Sweden": "Stockholm", "Denmark": "Copenhagen",
    "Finland": "Helsinki", "Iceland": "Reykjavik", "Poland": "Warsaw", "Austria": "Vienna", "Hungary": "Budapest",
    "Greece": "Athens", "Turkey": "Ankara", "Russia": "Moscow", "Ukraine": "Kyiv", "Romania": "Bucharest", "Bulgaria": "Sofia",
    "Serbia": "Belgrade", "Croatia": "Zagreb", "Belgium": "Brussels", "Switzerland": "Bern", "the Netherlands": "Amsterdam",
    "the Czech Republic": "Prague", "Estonia": "Tallinn", "Latvia": "Riga", "Lithuania": "Vilnius", "Egypt": "Cairo",
    "Morocco": "Rabat", "Kenya": "Nairobi", "Ethiopia": "Addis Ababa", "Ghana": "Accra", "Senegal": "Dakar", "Tunisia": "Tunis",
    "Japan": "Tokyo", "China": "Beijing", "India": "New Delhi", "South Korea": "Seoul", "Thailand": "Bangkok",
    "Vietnam": "Hanoi", "Indonesia": "Jakarta", "Nepal": "Kathmandu", "Iran": "Tehran", "Iraq": "Baghdad", "Israel": "Jerusalem",
    "Australia": "Canberra", "New Zealand": "Wellington", "Canada": "Ottawa", "the United States": "Washington, D.C.",
    "Mexico": "Mexico City", "Cuba": "Havana", "Brazil": "Brasilia", "Argentina": "Buenos Aires", "Chile": "Santiago",
    "Peru": "Lima", "Colombia": "Bogota",
}
assert len(CAPITALS) == 60
