"""Names for the simulated catalogue's tags: 110 genres, 60 instruments, 78 moods, each under a category.

Only data. No name comes twice, because thresholds are kept by tag name.
"""

GENRES = {
    "rock": "rock indie-rock alternative-rock hard-rock punk post-punk psychedelic-rock progressive-rock "
    "garage-rock soft-rock shoegaze grunge",
    "metal": "metal heavy-metal death-metal doom-metal",
    "pop": "pop synth-pop indie-pop dream-pop electro-pop power-pop k-pop",
    "electronic": "electronic electronica idm glitch downtempo trip-hop breakbeat",
    "dance": "dance house deep-house tech-house disco nu-disco eurodance club",
    "techno": "techno minimal-techno trance psytrance hardstyle",
    "bass-music": "drum-and-bass dubstep jungle uk-garage future-bass trap",
    "ambient": "ambient dark-ambient drone space-music new-age",
    "hip-hop": "hip-hop rap boom-bap lo-fi-hip-hop grime",
    "soul": "soul neo-soul rnb motown gospel",
    "funk": "funk jazz-funk afrobeat",
    "jazz": "jazz smooth-jazz bebop swing acid-jazz latin-jazz jazz-fusion",
    "blues": "blues delta-blues electric-blues blues-rock",
    "country": "country americana bluegrass alt-country",
    "folk": "folk indie-folk singer-songwriter celtic acoustic",
    "classical": "classical baroque romantic-era chamber-music choral opera contemporary-classical",
    "latin": "latin salsa bossa-nova samba tango reggaeton",
    "reggae": "reggae dub ska",
    "world": "world flamenco balkan klezmer",
    "screen": "soundtrack trailer orchestral-score",
}
INSTRUMENTS = {
    "guitars": "acoustic-guitar electric-guitar classical-guitar slide-guitar twelve-string-guitar ukulele banjo "
    "mandolin lap-steel",
    "basses": "bass-guitar double-bass synth-bass fretless-bass",
    "keys": "piano electric-piano organ harpsichord accordion clavinet celesta melodica",
    "synthesizers": "synthesizer pad arpeggiator sampler theremin mellotron",
    "drums": "drum-kit drum-machine percussion congas bongos tambourine shaker hand-claps timpani cajon",
    "mallets": "vibraphone marimba glockenspiel xylophone",
    "strings": "violin viola cello string-ensemble harp fiddle",
    "winds": "flute clarinet oboe bassoon alto-saxophone tenor-saxophone trumpet trombone french-horn",
    "voices": "male-voice female-voice choir-voice beatbox",
}
MOODS = {
    "happy": "happy cheerful joyful upbeat playful carefree feel-good sunny",
    "sad": "sad melancholic heartbroken lonely bittersweet mournful nostalgic",
    "calm": "calm relaxing peaceful meditative soothing gentle dreamy",
    "energetic": "energetic driving powerful intense exciting fast-paced frenetic",
    "dark": "dark ominous mysterious tense scary suspenseful brooding haunting",
    "romantic": "romantic sensual tender intimate passionate loving warm",
    "epic": "epic heroic triumphant dramatic majestic inspiring uplifting motivational",
    "aggressive": "aggressive angry rebellious fierce raw gritty",
    "quirky": "quirky funny whimsical eccentric childlike mischievous",
    "cool": "cool groovy confident laid-back stylish urban sophisticated",
    "spacious": "ethereal hypnotic floating futuristic atmospheric cold hopeful",
}
BY_CLASS = {"genres": GENRES, "instruments": INSTRUMENTS, "moods": MOODS}


def tags_and_categories(class_name: str) -> tuple[list[str], list[str], list[int]]:
    """The tags of a class in order, its categories, and for each tag the index of its category."""
    categories = BY_CLASS[class_name]
    tags = [(tag, index) for index, names in enumerate(categories.values()) for tag in names.split()]
    return [tag for tag, _ in tags], [f"{name}-family" for name in categories], [index for _, index in tags]
