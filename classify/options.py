"""Options that several commands of classify share, with their help."""

import os
from pathlib import Path
from typing import Annotated

import typer

# Headings of the groups of options in --help.
IN_AND_OUT = "Input and output"
FEATURES = "Features"
SEARCH = "Search"
JUDGING = "Judging"
COMPUTING = "Computing"

Endpoint = Annotated[
    str | None,
    typer.Option("--endpoint-url", help="S3 endpoint of the stores, where it is not AWS", rich_help_panel=IN_AND_OUT),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="One JSON object on stdout; everything else is on stderr", rich_help_panel=IN_AND_OUT),
]
Runs = Annotated[Path, typer.Option(help="Where run folders lie and go", rich_help_panel=IN_AND_OUT)]
Seed = Annotated[int, typer.Option(min=0, help="Seed of heads, folds, draws and bootstrap", rich_help_panel=COMPUTING)]
Replicates = Annotated[int, typer.Option(min=1, help="Bootstrap replicates", rich_help_panel=JUDGING)]
Trials = Annotated[
    int, typer.Option(min=0, help="Optuna trials inside train; 0: safe defaults", rich_help_panel=SEARCH)
]
Layer = Annotated[
    str,
    typer.Option(
        help="A layer that the stores hold, or auto: searched with --trials, else last", rich_help_panel=FEATURES
    ),
]
Pool = Annotated[
    str,
    typer.Option(
        help="Pools that the stores hold, such as mean,max, or auto: searched, else mean", rich_help_panel=FEATURES
    ),
]
Aggregate = Annotated[
    str,
    typer.Option(
        help="How scans become participants: mean-logits, mean-features, best-protocol, learned-weights, "
        "or auto: searched with --trials, else mean-logits",
        rich_help_panel=FEATURES,
    ),
]
TokenGrid = Annotated[
    str | None,
    typer.Option(
        help="Grid of patch tokens for attentive, such as 4x6x6; if not given, at most 150 tokens a volume",
        rich_help_panel=FEATURES,
    ),
]
ViewsToLearn = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Augmented views of each volume to learn from as well (extract-embeddings --views); if not given, all",
        rich_help_panel=FEATURES,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        help="cpu, cuda or auto, for linear, mlp, attentive and mil; the others stay on the CPU",
        rich_help_panel=COMPUTING,
    ),
]
Jobs = Annotated[
    int, typer.Option(min=1, help="Processes of the search, one thread and some folds each", rich_help_panel=SEARCH)
]
Minutes = Annotated[
    float | None,
    typer.Option(
        min=0, help="Search until then, with --trials whichever ends first; it can be continued", rich_help_panel=SEARCH
    ),
]
Folds = Annotated[
    int | None,
    typer.Option(
        min=2, help="Folds of participants inside train; 5, or fewer where a class is small", rich_help_panel=SEARCH
    ),
]
Nested = Annotated[
    bool,
    typer.Option(
        "--nested",
        help="Judge the whole search on outer folds of train and val too (5 more searches)",
        rich_help_panel=SEARCH,
    ),
]
Engine = Annotated[
    str, typer.Option(help="Where trials run: local, or ray (Ray Tune; needs the extra ray)", rich_help_panel=SEARCH)
]
RayAddress = Annotated[
    str | None, typer.Option(help="Address of a running Ray cluster; none: this machine", rich_help_panel=SEARCH)
]
Seeds = Annotated[
    int,
    typer.Option(min=1, help="Fit the chosen model with so many seeds, and show their range", rich_help_panel=JUDGING),
]
Calibrate = Annotated[
    str,
    typer.Option(
        help="How logits become probabilities: auto (the smallest log-loss on held-out train), logistic, temperature, "
        "isotonic, none",
        rich_help_panel=JUDGING,
    ),
]
Prevalence = Annotated[
    str | None,
    typer.Option(
        help="Class shares that probabilities are stated at: class=share,...; if not given, those of train and val",
        rich_help_panel=JUDGING,
    ),
]
Robustness = Annotated[
    bool,
    typer.Option(
        "--robustness", help="Fit again without each site and device, and judge there", rich_help_panel=JUDGING
    ),
]
Measurements = Annotated[
    Path | None,
    typer.Option(
        help="OMOP measurement.csv: HbA1c as a ceiling, BMI as a baseline; neither is ever a covariate",
        rich_help_panel=IN_AND_OUT,
    ),
]
Resplit = Annotated[
    str | None,
    typer.Option(
        help="Why people whom an earlier run here locked as test are train or val now, or many labels changed; kept "
        "and shown with every number",
        rich_help_panel=IN_AND_OUT,
    ),
]
Pretrained = Annotated[
    Path | None,
    typer.Option(
        help="Participants that the encoder was pretrained on: one id a line, or a table with participant_id",
        rich_help_panel=IN_AND_OUT,
    ),
]
NearCopies = Annotated[
    Path | None,
    typer.Option(
        help="Participants, or pairs of them (two ids a line), whose scans may be nearly equal: twins, repeats",
        rich_help_panel=IN_AND_OUT,
    ),
]

CORES = os.cpu_count() or 1
