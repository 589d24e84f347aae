#!/usr/bin/env python3
"""Writes the training corpus of the built-in model from seeded grammars. No external data.

A document is a list of messages plus a mode; protocol.py renders it to (token text, is target) pieces. Skills are functions of an rng that
return one exchange: (question, reasoning, answer, check). Held-out prompts are those whose hash falls in one slot of SPLIT: they are
skipped in training and are the only ones used in evaluation.
"""
import argparse
import json
import random
import zlib

from protocol import render
from words import CAPITALS, NAMES, WORDS

SPLIT = 25


def held_out(text):
    return zlib.crc32(text.encode()) % SPLIT == 0


def vary(rng, text):
    """The ways people type."""
    k = rng.random()
    if k < 0.2:
        text = text[0].lower() + text[1:]
    elif k < 0.3:
        text = text.lower()
    if rng.random() < 0.15:
        text = text.rstrip("?.!")
    if rng.random() < 0.05:
        text = "please " + text[0].lower() + text[1:]
    return text


# ---- arithmetic ----

def add_steps(a, b):
    steps, carry, names = [], 0, ["ones", "tens", "hundreds"]
    n = max(len(str(a)), len(str(b)))
    for i in range(n):
        x, y = a // 10 ** i % 10, b // 10 ** i % 10
        s = x + y + carry
        line = f"{names[i]}: {x}+{y}" + (f"+{carry}" if carry else "") + f"={s}"
        carry = s // 10
        steps.append(line + (f", write {s % 10} carry 1" if carry else f", write {s % 10}"))
    if carry:
        steps.append("write 1")
    return "\n".join(steps)


def sub_steps(a, b):
    if a < b:
        return f"{a} is less than {b}, so the result is negative: {b}-{a}\n{sub_steps(b, a)}\nnegate"
    steps, borrow, names = [], 0, ["ones", "tens", "hundreds"]
    for i in range(len(str(a))):
        x, y = a // 10 ** i % 10, b // 10 ** i % 10
        line = f"{names[i]}: {x}-{y}" + (f"-{borrow}" if borrow else "")
        d = x - y - borrow
        borrow = 1 if d < 0 else 0
        steps.append(line + (f"={d}, borrow, write {d + 10}" if borrow else f"={d}, write {d}"))
    return "\n".join(steps)


def number(rng):
    return rng.randrange(10 ** rng.choice([1, 2, 2, 3, 3, 3]))


def arithmetic(rng):
    a, b = number(rng), number(rng)
    if rng.random() < 0.5:
        q = rng.choice(["What is {a} + {b}?", "{a} + {b}", "{a}+{b}=", "Add {a} and {b}.", "What is {a} plus {b}?", "How much is {a} + {b}?",
                        "Compute {a} + {b}.", "What is the sum of {a} and {b}?", "Can you add {a} and {b}?", "{a} plus {b}?"])
        r, c = add_steps(a, b), a + b
        full = f"{a} + {b} = {c}"
    else:
        if a < b and rng.random() < 0.85:
            a, b = b, a
        q = rng.choice(["What is {a} - {b}?", "{a} - {b}", "{a}-{b}=", "Subtract {b} from {a}.", "What is {a} minus {b}?", "How much is {a} - {b}?",
                        "Compute {a} - {b}.", "What is the difference of {a} and {b}?", "Take {b} away from {a}.", "{a} minus {b}?"])
        r, c = sub_steps(a, b), a - b
        full = f"{a} - {b} = {c}"
    r += f"\nThe result is {c}."
    return q.format(a=a, b=b), r, rng.choice([f"{c}", f"{full}", f"The answer is {c}."]), {"number": c}


def compare(rng):
    a, b = number(rng), number(rng)
    while a == b:
        b = number(rng)
    big = rng.random() < 0.5
    word = rng.choice(["larger", "bigger", "greater"] if big else ["smaller", "less"])
    q = rng.choice(["Which is {w}: {a} or {b}?", "Which number is {w}, {a} or {b}?", "{a} or {b}: which is {w}?", "Tell me the {w} of {a} and {b}."])
    c = max(a, b) if big else min(a, b)
    x, y = str(a), str(b)
    if len(x) != len(y):
        r = f"{a} has {len(x)} digit{'s' * (len(x) > 1)}, {b} has {len(y)}."
    else:
        i = next(i for i in range(len(x)) if x[i] != y[i])
        r = f"Same length. Digit {i + 1}: {x[i]} against {y[i]}."
    r += f" So {max(a, b)} is larger than {min(a, b)}."
    return q.format(w=word, a=a, b=b), r, rng.choice([f"{c}", f"{c} is {word}.", f"The {word} one is {c}."]), {"number": c}


def count(rng):
    if rng.random() < 0.5:
        n = rng.randint(2, 9)
        items = [rng.choice(WORDS) for _ in range(n)]
        q = rng.choice(["How many words are in this list: {l}?", "Count the items: {l}", "How many items are here: {l}?", "Count these words: {l}"])
        r = " ".join(f"{i + 1}:{w}" for i, w in enumerate(items)) + f"\nThat is {n}."
        return q.format(l=", ".join(items)), r, rng.choice([f"{n}", f"There are {n}.", f"{n} items."]), {"number": n}
    w = rng.choice(WORDS)
    q = rng.choice(["How many letters are in the word {w}?", "How many letters does {w} have?", "Count the letters in {w}."])
    r = " ".join(f"{i + 1}:{c}" for i, c in enumerate(w)) + f"\nThat is {len(w)}."
    return q.format(w=w), r, rng.choice([f"{len(w)}", f"It has {len(w)} letters.", f"{w} has {len(w)} letters."]), {"number": len(w)}


def sort(rng):
    n = rng.randint(2, 6)
    if rng.random() < 0.7:
        items = [rng.randrange(100 if rng.random() < 0.6 else 1000) for _ in range(n)]
        down = rng.random() < 0.25
        out = sorted(items, reverse=down)
        how = rng.choice(["from largest to smallest", "in descending order"]) if down else rng.choice(["", "in ascending order", "from smallest to largest"])
    else:
        items = rng.sample(WORDS, n)
        out, how = sorted(items), rng.choice(["alphabetically", "in alphabetical order"])
        down = False
    q = rng.choice(["Sort {h}: {l}", "Sort this list {h}: {l}", "Please sort these {h}: {l}", "Put these in order {h}: {l}"])
    q = " ".join(q.format(h=how, l=", ".join(map(str, items))).split()).replace(" :", ":")
    left, steps = list(items), []
    for o in out:
        left.remove(o)
        steps.append(f"next {o}, left: {', '.join(map(str, left))}" if left else f"last {o}")
    a = ", ".join(map(str, out))
    return q, "\n".join(steps), a, {"text": a}


def letters(rng):
    w = rng.choice(WORDS)
    kind = rng.randrange(3)
    spelled = "-".join(w)
    if kind == 0:
        q = rng.choice(["Write {w} in upper case.", "Upper-case the word {w}.", "Make {w} uppercase.", "Convert {w} to capital letters.", "{w} in capitals?"])
        a = w.upper()
        r = f"{spelled}\n{'-'.join(a)}"
    elif kind == 1:
        q = rng.choice(["Reverse the word {w}.", "Spell {w} backwards.", "What is {w} backwards?", "Write {w} in reverse.", "Reverse {w}"])
        a = w[::-1]
        r = f"{spelled}\n{'-'.join(a)}"
    else:
        q = rng.choice(["Spell {w}.", "How do you spell {w}?", "Spell the word {w}.", "Spell out {w} letter by letter.", "Can you spell {w}?"])
        a = spelled.upper() if rng.random() < 0.0 else spelled
        r = f"The letters of {w} in order."
    return q.format(w=w), r, a, {"text": a}


# ---- facts about the world and itself ----

def capital(rng):
    c = rng.choice(list(CAPITALS))
    a = CAPITALS[c]
    if rng.random() < 0.8:
        q = rng.choice(["What is the capital of {c}?", "Capital of {c}?", "Tell me the capital of {c}.", "What's the capital city of {c}?",
                        "Which city is the capital of {c}?", "Do you know the capital of {c}?", "Name the capital of {c}.", "The capital of {c} is?",
                        "I forgot the capital of {c}. What is it?", "Could you tell me what the capital of {c} is?"]).format(c=c)
        ans = rng.choice([f"The capital of {c} is {a}.", f"{a}.", f"{a}", f"It is {a}."])
        return q, f"The capital of {c} is {a}.", ans, {"contains": a}
    q = rng.choice(["{a} is the capital of which country?", "Which country has {a} as its capital?", "Of which country is {a} the capital?"]).format(a=a)
    return q, f"{a} is the capital of {c}.", rng.choice([f"{a} is the capital of {c}.", f"{c[0].upper() + c[1:]}."]), {"contains": c.replace("the ", "")}


IDENTITY = [
    (["Who are you?", "What are you?", "What is your name?", "Introduce yourself.", "Tell me about yourself.", "who r u", "Who am I talking to?",
      "What's your name?", "Are you a person?", "Are you human?", "Are you a robot?", "What model are you?", "Which model is this?"],
     ["I am the built-in model of Sluice, a small language model.", "I am Sluice's built-in model, a small language model that runs on your machine."]),
    (["Who made you?", "Who created you?", "Who trained you?", "Where do you come from?", "Who built you?"],
     ["I was trained by the authors of Sluice, from scratch, on text that they generated.", "The authors of Sluice trained me."]),
    (["What can you do?", "What are you good at?", "How can you help me?", "help", "What do you know?", "Can you help me?", "What should I ask you?"],
     ["I can add and subtract, compare, count and sort, spell and reverse words, name capitals, tell short stories, remember what you tell me and call tools. I am very small, so please do not expect more.",
      "Small things: sums, sorting, spelling, capitals, short stories and tool calls."]),
    (["Hi", "Hello", "hey", "hello there", "Good morning", "Good evening", "hi!", "Hello!", "yo", "Greetings", "hi there"],
     ["Hello! How can I help you?", "Hi! What can I do for you?", "Hello! What would you like to do?"]),
    (["Thanks", "Thank you!", "thx", "Thank you very much.", "Great, thanks", "ok thanks"],
     ["You are welcome!", "You're welcome! Anything else?", "Glad to help."]),
    (["Bye", "Goodbye", "See you", "bye bye", "Good night"], ["Goodbye!", "See you soon!", "Goodbye, take care."]),
    (["How are you?", "How are you doing?", "how's it going"], ["I am fine, thank you. How can I help you?", "All good here. What can I do for you?"]),
    (["Are you DeepSeek?", "Are you ChatGPT?", "Are you Claude?", "Are you GPT-4?", "Are you Gemini?"],
     ["No, I am the built-in model of Sluice, a small language model.", "No. I am Sluice's small built-in model."]),
]


def identity(rng):
    i = rng.randrange(len(IDENTITY))
    qs, answers = IDENTITY[i]
    a = rng.choice(answers)
    return rng.choice(qs), "A simple question about me or a greeting.", a, {"any": [x[:14] for x in answers]}


def decline(rng):
    n, w, c = rng.choice(NAMES), rng.choice(WORDS), rng.choice(list(CAPITALS))
    q = rng.choice([
        f"What is the weather in {CAPITALS[c]} today?", f"What will the weather be tomorrow in {c}?", f"Who won the game last night in {CAPITALS[c]}?", f"What is {n}'s phone number?",
        f"What time is it in {CAPITALS[c]}?", "What time is it?", "What day is it today?", f"How many people live in {c}?", f"Who is the president of {c}?", "What is the latest news?",
        f"What is the price of a {w}?", f"How much does a {w} cost?", f"When was {n} born?", f"Where does {n} live?", "What is the stock price today?", f"What did {n} eat for breakfast?",
        f"Write a program that sorts a {w}.", f"Explain quantum physics of a {w}.", f"What is the history of {c}?", f"Translate {w} into {rng.choice(['French', 'German', 'Spanish', 'Latin'])}.", f"What is the meaning of the word {w}?",
        f"What is the capital of {n}land?", f"What is the capital of {w.capitalize()}ia?", f"How tall is {n}?", f"What is {number(rng)} times {number(rng)}?",
        f"What is {number(rng)} divided by {number(rng)}?", f"Who wrote the book about the {w}?", f"How far is it from {CAPITALS[c]} to the {w}?"])
    a = rng.choice(["I do not know that.", "Sorry, I do not know that.", "I'm afraid I don't know that.", "That is beyond what I know."])
    return q, "This is not something I know.", a, {"any": ["do not know", "don't know", "beyond what I know"]}


# ---- stories ----

PLACES = ["forest", "village", "harbor", "old mill", "mountain", "library", "market", "castle", "island", "meadow", "lighthouse", "orchard"]
OBJECTS = ["silver key", "red kite", "wooden box", "old map", "golden coin", "blue lantern", "small drum", "glass marble", "green scarf", "broken clock"]
ANIMALS = ["fox", "owl", "rabbit", "cat", "dog", "turtle", "sparrow", "goat", "hedgehog", "pony"]
MOODS = ["happy", "proud", "curious", "brave", "tired", "grateful"]


def story(rng):
    hero, friend = rng.sample(NAMES, 2)
    place, place2 = rng.sample(PLACES, 2)
    thing, animal = rng.choice(OBJECTS), rng.choice(ANIMALS)
    kind = rng.randrange(4)
    topic = [animal, thing, place, hero][kind]
    q = rng.choice(["Tell me a story about {t}.", "Write a short story about {t}.", "Can you tell a story about {t}?", "A story about {t}, please.", "Tell a short story about {t}."])
    t = hero if kind == 3 else ("an " if topic[0] in "aeiou" else "a ") + topic
    if rng.random() < 0.1:
        q = rng.choice(["Tell me a story.", "Write a short story.", "Tell me a bedtime story.", "I want a story."])
    s = [rng.choice([f"Once upon a time, {hero} lived near a {place}.", f"{hero} lived in a small house by the {place}.", f"There was once a child called {hero} who lived close to a {place}."]),
         rng.choice([f"One morning {hero} found a {thing} under a tree.", f"One day {hero} saw a {thing} lying in the grass.", f"On a rainy day {hero} discovered a {thing} behind the house."]),
         rng.choice([f"A {animal} came by and said that the {thing} belonged to {friend}.", f"A friendly {animal} knew that {friend} had lost the {thing}.", f"The {animal} next door whispered that {friend} was looking for the {thing}."]),
         rng.choice([f"So {hero} and the {animal} walked to the {place2} to find {friend}.", f"Together {hero} and the {animal} set out for the {place2}, where {friend} lived.", f"{hero} put the {thing} in a bag and followed the {animal} to the {place2}."]),
         rng.choice([f"The way was long, and the {animal} grew tired, but {hero} carried it.", f"On the way they crossed a river, and {hero} held the {thing} high above the water.", f"It was dark when they arrived, but the {animal} knew the way."]),
         rng.choice([f"When {friend} saw the {thing}, {friend} laughed with joy.", f"{friend} was so glad to have the {thing} back.", f"{friend} thanked {hero} and the {animal} many times."]),
         rng.choice([f"{friend} gave {hero} warm bread, and the {animal} slept by the fire.", f"They all ate soup together at the {place2}.", f"{hero} stayed until evening and told {friend} about the {place}."]),
         rng.choice([f"From that day on, {hero} and {friend} were friends.", f"And {hero} felt {rng.choice(MOODS)} all the way home.", f"That night {hero} fell asleep, {rng.choice(MOODS)} and warm."])]
    keep = sorted(rng.sample([4, 6], rng.randint(0, 2)))
    s = [x for i, x in enumerate(s) if i not in keep] if rng.random() < 0.5 else s
    r = f"A story with {hero}, {friend}, a {animal} and a {thing}."
    return q.format(t=t), r, " ".join(s), {"story": t.split()[-1] if "{t}" in q else ""}


SIMPLE = [(arithmetic, 30), (compare, 8), (count, 9), (sort, 14), (letters, 14), (capital, 11), (identity, 7), (decline, 6), (story, 7)]


def exchange(rng, train=True):
    while True:
        f = rng.choices([f for f, _ in SIMPLE], [w for _, w in SIMPLE])[0]
        q, r, a, check = f(rng)
        q = vary(rng, q)
        if held_out(q) != train or f in (identity,):
            return f.__name__, q, r, a, check


# ---- recall ----

def fact(rng):
    n, w = rng.choice(NAMES), rng.choice(WORDS)
    code = rng.randrange(100, 1000)
    return rng.choice([
        (f"My locker code is {code}.", ["What is my locker code?", "Do you remember my locker code?", "Which code does my locker have?"], f"Your locker code is {code}.", str(code)),
        (f"My dog is called {n}.", ["What is my dog called?", "What is the name of my dog?", "Do you remember my dog's name?"], f"Your dog is called {n}.", n),
        (f"My favorite word is {w}.", ["What is my favorite word?", "Do you remember my favorite word?", "Which word do I like most?"], f"Your favorite word is {w}.", w),
        (f"My name is {n}.", ["What is my name?", "Do you remember my name?", "What am I called?"], f"Your name is {n}.", n),
        (f"I live in {CAPITALS[(c := rng.choice(list(CAPITALS)))]}.", ["Where do I live?", "In which city do I live?", "Do you remember where I live?"], f"You live in {CAPITALS[c]}.", CAPITALS[c]),
        (f"The password is {w}.", ["What is the password?", "Tell me the password.", "Do you remember the password?"], f"The password is {w}.", w),
        (f"My train leaves from platform {code % 20 + 1}.", ["Which platform does my train leave from?", "What is my platform?"], f"Your train leaves from platform {code % 20 + 1}.", str(code % 20 + 1)),
        (f"I have {code % 90 + 3} marbles.", ["How many marbles do I have?", "Do you remember how many marbles I have?"], f"You have {code % 90 + 3} marbles.", str(code % 90 + 3)),
    ])


THINGS = ["locker", "bike", "garage", "suitcase", "diary", "safe", "gate", "office"]
KIN = ["brother", "sister", "uncle", "aunt", "teacher", "neighbor", "cousin", "doctor"]
PETS = ["cat", "horse", "parrot", "hamster", "goldfish"]


def pair(rng):
    """Facts of many kinds: only what was said tells the answer."""
    n, w = rng.choice(NAMES), rng.choice(WORDS)
    code = rng.randrange(100, 1000)
    kind = rng.randrange(5)
    if kind == 0:
        x = rng.choice(THINGS)
        return f"The code of my {x} is {code}.", [f"What is the code of my {x}?", f"Which code does my {x} have?"], f"The code of your {x} is {code}.", str(code)
    if kind == 1:
        x = rng.choice(KIN)
        return f"My {x} is called {n}.", [f"What is my {x} called?", f"What is the name of my {x}?"], f"Your {x} is called {n}.", n
    if kind == 2:
        x = rng.choice(PETS)
        return f"My {x} is called {n}.", [f"What is my {x} called?", f"Do you remember the name of my {x}?"], f"Your {x} is called {n}.", n
    if kind == 3:
        x = rng.choice(NAMES)
        return f"{x} likes the {w}.", [f"What does {x} like?", f"Do you remember what {x} likes?"], f"{x} likes the {w}.", w
    x = rng.choice(OBJECTS)
    return f"The {x} is in the {w}.", [f"Where is the {x}?", f"Do you remember where the {x} is?"], f"The {x} is in the {w}.", w


def facts(rng, n):
    """Facts that do not contradict each other."""
    told, keys = [], set()
    for f in [(fact if rng.random() < 0.5 else pair)(rng) for _ in range(n)]:
        if f[1][0] not in keys:
            keys.add(f[1][0])
            told.append(f)
    return told


def ask(rng, f):
    return [("user", vary(rng, rng.choice(f[1]))), ("assistant", f"Earlier the user said: {f[0]}", f[2])]


def recall(rng, budget, asks=0.0):
    """Facts stated, other talk, then a question. budget: words of other talk; asks: how often a question interrupts the talk."""
    told, msgs = facts(rng, rng.randint(1, 3 if not asks else 6)), []
    for f in told:
        msgs += [("user", rng.choice(["", "Please remember: ", "Remember this: ", "By the way, "]) + f[0]), ("assistant", None, rng.choice(["I will remember that.", "Noted.", "Okay, I will remember it."]))]
    words = 0
    while words < budget:
        _, q, r, a, _ = exchange(rng)
        words += len(q.split()) + len(a.split()) + 6
        msgs += [("user", q), ("assistant", r, a)]
        if rng.random() < asks:
            msgs += ask(rng, rng.choice(told))
            words += 12
    f = rng.choice(told)
    return msgs + ask(rng, f), {"contains": f[3]}


# ---- tools ----

def tool(name, description, **props):
    required = [k for k in props]
    return {"name": name, "description": description,
            "parameters": {"type": "object", "properties": {k: {"type": t, "description": d} for k, (t, d) in props.items()}, "required": required}}


S, I, B = "string", "integer", "boolean"
TOOLS = [
    (tool("get_weather", "Get the current weather of a city.", city=(S, "Name of the city")), ["What is the weather in {city}?", "How is the weather in {city} today?", "Weather in {city}, please.", "Is it raining in {city}?"],
     lambda g: {"city": g["city"]}, lambda g, a: (f'{{"temperature": {g["n"] % 35}, "sky": "{g["sky"]}"}}', f'In {a["city"]} it is {g["n"] % 35} degrees and {g["sky"]}.')),
    (tool("get_time", "Get the local time of a city.", city=(S, "Name of the city")), ["What time is it in {city}?", "Tell me the time in {city}.", "Current time in {city}?"],
     lambda g: {"city": g["city"]}, lambda g, a: (f'{{"time": "{g["n"] % 24:02d}:{g["m"] % 60:02d}"}}', f'It is {g["n"] % 24:02d}:{g["m"] % 60:02d} in {a["city"]}.')),
    (tool("add_numbers", "Add two numbers.", a=(I, "First number"), b=(I, "Second number")), ["Use the tool to add {n} and {m}.", "Add {n} and {m} with the tool.", "Please add {n} and {m} using a tool."],
     lambda g: {"a": g["n"], "b": g["m"]}, lambda g, a: (str(a["a"] + a["b"]), f'The sum is {a["a"] + a["b"]}.')),
    (tool("read_file", "Read a text file.", path=(S, "Path of the file")), ["Show me the file {path}.", "Read {path}.", "What is in {path}?", "Open {path} please."],
     lambda g: {"path": g["path"]}, lambda g, a: (f'{g["w"]} {g["v"]}', f'The file {a["path"]} says: {g["w"]} {g["v"]}')),
    (tool("write_file", "Write text to a file.", path=(S, "Path of the file"), content=(S, "Text to write")), ["Write {w} into {path}.", "Save the word {w} to {path}.", "Put {w} into the file {path}."],
     lambda g: {"path": g["path"], "content": g["w"]}, lambda g, a: ("ok", f'I wrote {a["content"]} to {a["path"]}.')),
    (tool("run_command", "Run a shell command.", command=(S, "Command line")), ["Run {cmd}.", "Execute the command {cmd}", "Please run {cmd} in the shell."],
     lambda g: {"command": g["cmd"]}, lambda g, a: (g["w"], f'The command printed: {g["w"]}')),
    (tool("search_web", "Search the web.", query=(S, "What to search for")), ["Search the web for {w} {v}.", "Look up {w} {v} on the web.", "Find pages about {w} {v}."],
     lambda g: {"query": f'{g["w"]} {g["v"]}'}, lambda g, a: (f'1. All about {a["query"]}', f'I found one page: All about {a["query"]}.')),
    (tool("set_alarm", "Set an alarm.", hour=(I, "Hour, 0 to 23"), minute=(I, "Minute")), ["Set an alarm for {hh}:{mm:02d}.", "Wake me at {hh}:{mm:02d}.", "Alarm at {hh}:{mm:02d} please."],
     lambda g: {"hour": g["hh"], "minute": g["mm"]}, lambda g, a: ("ok", f'The alarm is set for {a["hour"]}:{a["minute"]:02d}.')),
    (tool("send_message", "Send a message to a person.", to=(S, "Name of the person"), text=(S, "The message")), ["Send {name} the message {w}.", "Tell {name} {w}.", "Message {name}: {w}"],
     lambda g: {"to": g["name"], "text": g["w"]}, lambda g, a: ("sent", f'I sent {a["text"]} to {a["to"]}.')),
    (tool("turn_light", "Switch the light of a room.", room=(S, "Name of the room"), on=(B, "true for on")), ["Turn {onoff} the light in the {room}.", "Switch {onoff} the {room} light.", "Light {onoff} in the {room} please."],
     lambda g: {"room": g["room"], "on": g["onoff"] == "on"}, lambda g, a: ("ok", f'The light in the {a["room"]} is {"on" if a["on"] else "off"} now.')),
    (tool("list_files", "List the files of a folder.", path=(S, "Path of the folder")), ["List the files in {dir}.", "What files are in {dir}?", "Show the folder {dir}."],
     lambda g: {"path": g["dir"]}, lambda g, a: (f'{g["w"]}.txt\n{g["v"]}.txt', f'{a["path"]} has {g["w"]}.txt and {g["v"]}.txt.')),
    (tool("convert_currency", "Convert an amount of money.", amount=(I, "Amount"), source=(S, "Currency code"), target=(S, "Currency code")), ["Convert {n} {cur} to {cur2}.", "How much is {n} {cur} in {cur2}?", "Change {n} {cur} into {cur2}."],
     lambda g: {"amount": g["n"], "source": g["cur"], "target": g["cur2"]}, lambda g, a: (str(g["m"]), f'{a["amount"]} {a["source"]} is {g["m"]} {a["target"]}.')),
]


def slots(rng):
    w, v = rng.sample(WORDS, 2)
    cur, cur2 = rng.sample(["EUR", "USD", "GBP", "JPY", "CHF"], 2)
    ext = rng.choice(["txt", "md", "c", "py", "json"])
    return {"city": rng.choice(list(CAPITALS.values())), "n": number(rng), "m": number(rng), "w": w, "v": v, "name": rng.choice(NAMES), "cur": cur, "cur2": cur2,
            "path": rng.choice([f"{w}.{ext}", f"src/{w}.{ext}", f"docs/{w}.{ext}", f"/tmp/{w}.{ext}"]), "dir": rng.choice([f"src/{w}", w, f"/home/{w}", "."]),
            "cmd": rng.choice(["ls", "pwd", f"cat {w}.txt", f"echo {w}", "date", f"ls {w}", f"mkdir {w}", f"rm {w}.txt"]), "hh": rng.randrange(24), "mm": rng.randrange(60),
            "room": rng.choice(["kitchen", "bedroom", "hallway", "cellar", "attic", "balcony"]), "onoff": rng.choice(["on", "off"]), "sky": rng.choice(["sunny", "cloudy", "rainy", "windy", "snowy"])}


def fake_tool(rng):
    a, b, c = rng.sample(WORDS, 3)
    return tool(f"{a}_{b}", f"Handle the {a} of a {b}, with care for each {c}.", **{c: (rng.choice([S, I]), f"The {c} to use")})


def tool_talk(rng, train=True):
    """A conversation with tools: calls with results, or no fitting tool."""
    chosen = rng.sample(TOOLS, rng.randint(1, 4))
    schemas = [t[0] for t in chosen] + [fake_tool(rng) for _ in range(rng.choice([0, 0, 1, 2, 6]))]
    rng.shuffle(schemas)
    msgs, check = [], None
    for _ in range(rng.choice([1, 1, 2, 3])):
        if rng.random() < 0.2:
            _, q, r, a, _ = exchange(rng)
            msgs += [("user", q), ("assistant", "No tool is needed. " + r, a)]
            continue
        picked = rng.sample(chosen, 2) if len(chosen) > 1 and rng.random() < 0.1 else [rng.choice(chosen)]
        while True:
            qs, calls, results, texts = [], [], [], []
            for t in picked:
                g = slots(rng)
                args = t[2](g)
                result, text = t[3](g, args)
                qs.append(rng.choice(t[1]).format(**g))
                calls.append((t[0]["name"], args))
                results.append(result)
                texts.append(text)
            q = vary(rng, " ".join(qs)) if len(qs) == 1 else " And ".join(qs)
            if held_out(q) != train:
                break
        check = {"calls": [[n, a] for n, a in calls]}
        msgs += [("user", q), ("assistant", f"I should call {' and '.join(n for n, _ in calls)}.", "", calls)]
        msgs += [("tool", r) for r in results] + [("assistant", "The result is there.", " ".join(texts))]
    return schemas, msgs, check


# ---- system prompts ----

def ramble(rng, words):
    """Irrelevant but plausible instructions, as agents send them."""
    out, n = [], 0
    while n < words:
        w, v, u = rng.sample(WORDS, 3)
        line = rng.choice([
            f"Always check the {w} before you change the {v}.", f"# {w.capitalize()} {v}", f"- Prefer a {w} over a {v} when the {u} is {rng.choice(MOODS)}.",
            f"Do not mention the {w} unless {rng.choice(NAMES)} asks for it.", f"The working directory is /home/{w}/{v}.", f"If the {w} fails, try the {v} once, then report the {u}.",
            f"Never delete a {w} without asking.", f"{rng.choice(NAMES)} keeps the {w} in the {rng.choice(PLACES)}.", f"You have access to the {w}, the {v} and the {u}.",
            f"{rng.randint(1, 9)}. Read the {w}; {rng.randint(1, 9)}. write the {v}.", f"<{w}>{v} {u}</{w}>", f"IMPORTANT: keep answers short and refer to the {w} by name.",
            f"def {w}({v}):\n    return {u} + {rng.randrange(100)}", f"| {w} | {v} | {rng.randrange(1000)} |", f"Date: 20{rng.randrange(20, 30)}-{rng.randrange(1, 13):02d}-{rng.randrange(1, 29):02d}"])
        out.append(line)
        n += len(line.split()) + 2
    return "\n".join(out)


def system_prompt(rng, long_words=0):
    base = rng.choice(["You are a helpful assistant.", "You are a helpful assistant.", "You are a coding agent running in a terminal.", "Be concise.", "You are the built-in model of Sluice.",
                       "Answer in one sentence.", "You are a friendly assistant called Sluice.", "You are an agent. Use the tools when they help.", "Help the user."])
    return base + ("\n\n" + ramble(rng, long_words) if long_words else "")


# ---- documents ----

def document(rng, size):
    """(messages, tools, thinking): size is about the tokens wanted: 'short' fits 512, 'long' fills 4096."""
    thinking = rng.random() < 0.5
    long_words = 0
    if size == "long":
        long_words = rng.choice([0, 0, 300, 900, 1500])
    elif rng.random() < 0.04:
        long_words = rng.randint(20, 120)
    kind = rng.random()
    msgs, tools = [], None
    if size == "long":
        if kind < 0.75:
            msgs, _ = recall(rng, rng.choice([150, 400, 800, 1200]) if not long_words else 150, asks=rng.choice([0.15, 0.4]))
        else:
            tools, msgs, _ = tool_talk(rng)
            tools += [fake_tool(rng) for _ in range(rng.randint(0, 12))]
    elif kind < 0.17:
        tools, msgs, _ = tool_talk(rng)
    elif kind < 0.34:
        msgs, _ = recall(rng, rng.choice([0, 40, 90, 130, 170, 200]), asks=rng.choice([0.0, 0.3, 0.6]))
    else:
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            _, q, r, a, _ = exchange(rng)
            msgs += [("user", q), ("assistant", r, a)]
    head = []
    if long_words or tools or rng.random() < 0.3:
        head = [("system", system_prompt(rng, long_words))]
    return head + msgs, tools, thinking


# ---- held-out prompts ----

def as_messages(msgs):
    return [{"role": m[0], "content": m[1]} if m[0] != "assistant" else {"role": "assistant", "content": m[2]} for m in msgs]


def evaluation(rng, per_skill):
    for f, _ in SIMPLE:
        for thinking in (False, True):
            seen, tries = set(), 0
            while len(seen) < per_skill // 2 and tries < 200000:
                tries += 1
                q, _, _, check = f(rng)
                q = vary(rng, q)
                if q in seen or (not held_out(q) and f is not identity):
                    continue
                seen.add(q)
                yield {"skill": f.__name__, "thinking": thinking, "messages": [{"role": "user", "content": q}], "check": check}
                if f is identity and len(seen) >= 60:
                    break
    for i in range(per_skill):
        msgs, check = recall(rng, rng.choice([0, 60, 150, 400, 800, 1100]))
        yield {"skill": "recall", "thinking": i % 2 == 0, "messages": as_messages(msgs[:-1]), "check": check}
    done = 0
    while done < per_skill:
        tools, msgs, check = tool_talk(rng, train=False)
        if len(msgs) < 4 or not check or len(msgs[1]) < 4:
            continue
        n_results = len(msgs[1][3])
        last = msgs[2 + n_results]
        thinking = done % 2 == 0
        head = [{"role": "system", "content": system_prompt(rng)}, {"role": "user", "content": msgs[0][1]}]
        row = {"skill": "tools", "thinking": thinking, "tools": [{"type": "function", "function": t} for t in tools], "messages": head,
               "check": {"calls": [[n, a] for n, a in msgs[1][3]], "then": {"results": [m[1] for m in msgs[2:2 + n_results]], "text": last[2]}}}
        yield row
        done += 1


def main():
    p = argparse.ArgumentParser()
    p.add_argument("what", choices=["show", "text", "eval"])
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("-n", type=int, default=5)
    p.add_argument("--size", default="short")
    o = p.parse_args()
    rng = random.Random(o.seed)
    if o.what == "eval":
        for row in evaluation(rng, o.n):
            print(json.dumps(row, ensure_ascii=False))
        return
    for _ in range(o.n):
        text = "".join(t for t, _ in render(*document(rng, o.size)))
        print(text if o.what == "text" else text + "\n" + "=" * 20)


if __name__ == "__main__":
    main()
