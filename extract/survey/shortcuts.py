"""Whether facts that are no anatomy (frames, size, depth, file type, vendor) nearly give a label away."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

from extract.layouts.contract import Warned
from extract.survey.facts import Surveyed

FEWEST, FEWEST_OF_CLASS, FOLDS = 30, 8, 5
TELLS = 0.25
"""How far of the way from chance to certainty a fact must lead before it is named."""

FACTS: Mapping[str, Callable[[Surveyed], str]] = {
    "frame count": lambda one: str(one.frames),
    "size": lambda one: f"{one.rows}x{one.columns}",
    "bit depth": lambda one: str(one.bits),
    "file type": lambda one: one.container or one.files[0].rpartition(".")[2].lower(),
    "vendor": lambda one: one.scan.ref.device,
}


def facts_that_tell(volumes: Sequence[Surveyed], columns: Sequence[str]) -> list[Warned]:
    """Predict each label from each fact alone, for people whom the table of that fact has not seen."""
    found = []
    for column in columns:
        labelled = [one for one in volumes if one.labels.get(column)]
        counts = Counter(one.labels[column] for one in labelled)
        if len(labelled) < FEWEST or len(counts) < 2 or min(counts.values()) < FEWEST_OF_CLASS:
            continue
        told = [
            (name, accuracy)
            for name, fact in FACTS.items()
            if (accuracy := balanced_accuracy(labelled, column, fact))
            > (1 / len(counts)) + TELLS * (1 - 1 / len(counts))
        ]
        if told:
            words = [f"{name} alone reaches balanced accuracy {accuracy:.2f} for {column}" for name, accuracy in told]
            found.append(Warned("facts_tell_label", "facts of the files nearly give the label", tuple(words)))
    return found


def balanced_accuracy(volumes: Sequence[Surveyed], column: str, fact: Callable[[Surveyed], str]) -> float:
    """Cross-validate, by participant, the rule that takes the class most enriched at a value of the fact."""
    people = sorted({one.scan.ref.participant for one in volumes})
    fold = {person: number % FOLDS for number, person in enumerate(people)}
    right, seen = Counter[str](), Counter[str]()
    for held_out in range(FOLDS):
        learned = [one for one in volumes if fold[one.scan.ref.participant] != held_out]
        sizes = Counter(one.labels[column] for one in learned)
        shares: dict[str, Counter[str]] = defaultdict(Counter)
        for one in learned:
            shares[fact(one)][one.labels[column]] += 1
        for one in volumes:
            if fold[one.scan.ref.participant] == held_out:
                own = one.labels[column]
                table = shares.get(fact(one))
                guess = max(sorted(table), key=lambda label: table[label] / sizes[label]) if table else ""
                seen[own] += 1
                right[own] += guess == own
    return sum(right[label] / seen[label] for label in seen) / len(seen)
