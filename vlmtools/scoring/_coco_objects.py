"""The 80 COCO objects, the words that name each, and the word pairs that are read as one word.

Facts from the official CHAIR program and its word list (LisaAnne/Hallucination, BSD-2-Clause; its standalone edition
Maxlinn/CHAIR-metric-standalone). Entries that the program can never meet are left out, so that the numbers stay the
same: "motor bike" and "cheesecake" (stored there with a blank in front), "iPhone" (captions are lower-cased),
"dining table", "bow tie" and "stove top oven" (no such pair is ever put together or kept).
"""

# ruff: noqa: SIM905 - lists of words are read as text

_TABLE = """
person: girl, boy, man, woman, kid, child, chef, baker, people, adult, rider, children, baby, worker,
    passenger, sister, biker, policeman, cop, officer, lady, cowboy, bride, groom, male, female, guy,
    traveler, mother, father, gentleman, pitcher, player, skier, snowboarder, skater, skateboarder,
    foreigner, caller, offender, coworker, trespasser, patient, politician, soldier, grandchild,
    serviceman, walker, drinker, doctor, bicyclist, thief, buyer, teenager, student, camper, driver,
    solider, hunter, shopper, villager
bicycle: bike, unicycle, minibike, trike
car: automobile, van, minivan, sedan, suv, hatchback, cab, jeep, coupe, taxicab, limo, taxi
motorcycle: scooter, motor cycle, motorbike, moped
airplane: jetliner, plane, air plane, monoplane, aircraft, jet, airbus, biplane, seaplane
bus: minibus, trolley
train: locomotive, tramway, caboose
truck: pickup, lorry, hauler, firetruck
boat: ship, liner, sailboat, motorboat, dinghy, powerboat, speedboat, canoe, skiff, yacht, kayak,
    catamaran, pontoon, houseboat, vessel, rowboat, trawler, ferryboat, watercraft, tugboat, schooner,
    barge, ferry, sailboard, paddleboat, lifeboat, freighter, steamboat, riverboat, battleship, steamship
traffic light: street light, traffic signal, stop light, streetlight, stoplight
fire hydrant: hydrant
stop sign
parking meter
bench: pew
bird: ostrich, owl, seagull, goose, duck, parakeet, falcon, robin, pelican, waterfowl, heron, hummingbird,
    mallard, finch, pigeon, sparrow, seabird, osprey, blackbird, fowl, shorebird, woodpecker, egret,
    chickadee, quail, bluebird, kingfisher, buzzard, willet, gull, swan, bluejay, flamingo, cormorant,
    parrot, loon, gosling, waterbird, pheasant, rooster, sandpiper, crow, raven, turkey, oriole, cowbird,
    warbler, magpie, peacock, cockatiel, lorikeet, puffin, vulture, condor, macaw, peafowl, cockatoo,
    songbird
cat: kitten, feline, tabby
dog: puppy, beagle, pup, chihuahua, schnauzer, dachshund, rottweiler, canine, pitbull, collie, pug,
    terrier, poodle, labrador, doggie, doberman, mutt, doggy, spaniel, bulldog, sheepdog, weimaraner,
    corgi, cocker, greyhound, retriever, brindle, hound, whippet, husky
horse: colt, pony, racehorse, stallion, equine, mare, foal, palomino, mustang, clydesdale, bronc, bronco
sheep: lamb, ram, goat, ewe
cow: cattle, oxen, ox, calf, holstein, heifer, buffalo, bull, zebu, bison
elephant
bear: panda
zebra
giraffe
backpack: knapsack
umbrella
handbag: wallet, purse, briefcase
tie: bow
suitcase: suit case, luggage
frisbee
skis: ski
snowboard
sports ball: ball
kite
baseball bat
baseball glove
skateboard
surfboard: longboard, skimboard, shortboard, wakeboard
tennis racket: racket
bottle
wine glass
cup
fork
knife: pocketknife, knive
spoon
bowl: container
banana
apple
sandwich: burger, sub, cheeseburger, hamburger
orange
broccoli
carrot
hot dog
pizza
donut: doughnut, bagel
cake: cupcake, shortcake, coffeecake, pancake
chair: seat, stool
couch: sofa, recliner, futon, loveseat, settee, chesterfield
potted plant: houseplant
bed
dining table: table, desk
toilet: urinal, commode, lavatory, potty
tv: monitor, televison, television
laptop: computer, notebook, netbook, lenovo, macbook, laptop computer
mouse
remote
keyboard
cell phone: mobile phone, phone, cellphone, telephone, phon, smartphone
microwave
oven: stovetop, stove
toaster
sink
refrigerator: fridge, freezer
book
clock
vase
scissors
teddy bear: teddybear
hair drier: hairdryer
toothbrush
"""


def _read(table: str) -> dict[str, tuple[str, ...]]:
    lines = table.strip().replace("\n    ", " ").splitlines()
    split = (line.partition(": ") for line in lines)
    return {node: (node, *filter(None, words.split(", "))) for node, _, words in split}


SYNONYMS: dict[str, tuple[str, ...]] = _read(_TABLE)
"""Name of the object → the words that mean it, itself first."""

_KEPT_PAIRS = (
    "motor bike, motor cycle, air plane, traffic light, street light, traffic signal, stop light, fire hydrant, "
    "stop sign, parking meter, suit case, sports ball, baseball bat, baseball glove, tennis racket, wine glass, "
    "hot dog, cell phone, mobile phone, teddy bear, hair drier, potted plant, laptop computer, home plate, train track"
).split(", ")
_YOUNG = "bird cat dog horse sheep cow elephant bear zebra giraffe animal cub".split()
PAIRS: dict[str, str] = {
    **{pair: pair for pair in _KEPT_PAIRS},
    **{f"{age} {animal}": animal for age in ("baby", "adult") for animal in _YOUNG},
    "passenger jet": "jet",
    "passenger train": "train",
    "bow tie": "tie",
    "toilet seat": "toilet",
    "wine glas": "wine glass",
}
"""Two words in a row → the one word they are read as: a baby bird is no baby, home plate is nothing at all."""
