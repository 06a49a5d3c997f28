"""Wordings of requests: what a user says to get an item's answer.

``SEEN`` wordings occur in training rows and, on new content, in the benchmark ``wit_seen``.
``UNSEEN`` wordings occur in the benchmark ``wit_unseen`` alone. Neither occurs in pretraining.
"""

SEEN: dict[str, tuple[str, ...]] = {
    "first": (
        "What is the first word of {words}?",
        "Which word starts this list: {words}?",
        "{words}. Name the first of them.",
        "Tell me the word at the beginning: {words}",
        "Please write only the first word. {words}",
    ),
    "last": (
        "What is the last word of {words}?",
        "Which word ends this list: {words}?",
        "{words}. Name the last of them.",
        "Tell me the word at the end: {words}",
        "Please write only the last word. {words}",
    ),
    "count": (
        "How many words are in this list: {words}?",
        "Count the words. {words}",
        "What is the number of words here: {words}?",
        "{words}. How many are they?",
    ),
    "reverse": (
        "Reverse this list: {words}",
        "Write these words backwards: {words}",
        "{words}. Please turn the order around.",
        "Give me the list from the end to the beginning. {words}",
    ),
    "sorted": (
        "Sort these words: {words}",
        "Put this list in alphabetical order: {words}",
        "{words}. Please write them from a to z.",
        "What is the alphabetical order of {words}?",
    ),
    "upper": (
        "Write this in capital letters: {words}",
        "{words}. Put them in upper case, please.",
        "Give me these words in capitals: {words}",
        "How do these words look in large letters? {words}",
    ),
    "member": (
        "Is {item} one of these words: {words}?",
        "{words}. Is {item} in the list?",
        "Do you find {item} in this list? {words}",
        "Yes or no: does {words} contain {item}?",
    ),
    "sum": (
        "What is {a} plus {b}?",
        "Add {a} and {b}.",
        "How much is {a} + {b}?",
        "Tell me the sum of {a} and {b}.",
    ),
    "larger": (
        "Which number is larger: {a} or {b}?",
        "Name the bigger one of {a} and {b}.",
        "{a} and {b}: which is greater?",
        "What is the largest of {a} and {b}?",
    ),
    "eats": (
        "What does a {subject} eat?",
        "Name the food of the {subject}.",
        "What food do you give a {subject}?",
        "Tell me what the {subject} likes to eat.",
    ),
    "animal_lives": (
        "Where does a {subject} live?",
        "Name the home of the {subject}.",
        "Where can I find a {subject}?",
        "Tell me the place of the {subject}.",
    ),
    "colour": (
        "What colour is the {subject}?",
        "Name the colour of a {subject}.",
        "How does the {subject} look?",
        "Tell me the colour: {subject}",
    ),
}
"""By skill: training rows and ``wit_seen``."""

UNSEEN: dict[str, tuple[str, ...]] = {
    "first": (
        "Here is a list: {words}. Which of these is first?",
        "Show me what stands at the beginning of {words}.",
        "I have {words}. What word comes first?",
    ),
    "last": (
        "Here is a list: {words}. Which of these is last?",
        "Show me what stands at the end of {words}.",
        "I have {words}. What word comes last?",
    ),
    "count": (
        "Here is a list: {words}. How many words is that?",
        "Tell me the total count of these words: {words}",
    ),
    "reverse": (
        "Here is a list: {words}. Read it back in reverse order.",
        "Show me {words} from the last to the first.",
    ),
    "sorted": (
        "Here is a list: {words}. Give it in the order of the alphabet.",
        "Show me {words}, sorted from a to z.",
    ),
    "upper": (
        "Here is a list: {words}. Show it in upper case.",
        "Please use only capitals for {words}.",
    ),
    "member": (
        "Here is a list: {words}. Can you find {item} there?",
        "Does this list contain {item}: {words}? Answer yes or no.",
    ),
    "sum": (
        "{a} and {b} together are how much?",
        "Please give the total of {a} and {b}.",
    ),
    "larger": (
        "Of {a} and {b}, which one is bigger?",
        "Give me the larger number, {a} or {b}.",
    ),
    "eats": (
        "Which food is for the {subject}?",
        "Say what a {subject} eats.",
    ),
    "animal_lives": (
        "What is the home of a {subject}?",
        "In which place does the {subject} live?",
    ),
    "colour": (
        "Which colour has a {subject}?",
        "Say the colour of the {subject}.",
    ),
}
"""By skill: ``wit_unseen`` and ``wit_choice`` only."""

SYSTEM_TEXTS: tuple[str, ...] = (
    "You are a helpful helper. Be brief.",
    "Answer with the answer only.",
    "Be careful and friendly.",
    "Please give short answers.",
)

FOLLOW_UPS: dict[str, tuple[str, ...]] = {
    "first": ("And the first?", "Which one comes first?"),
    "last": ("And the last?", "Which one comes last?"),
    "count": ("And how many are they?", "How many words is that?"),
    "reverse": ("Now reverse it.", "And backwards?"),
    "sorted": ("Now sort it.", "And in alphabetical order?"),
}
"""Second turns about the first turn's list."""
