"""A problem written by `kfac export-problem`, and the record of a run on it."""

import argparse
import dataclasses
import json
import pathlib
import time

import numpy as np


@dataclasses.dataclass
class Problem:
    """Network, loss, data and initial weights."""

    widths: list[int]
    hidden: list[str]  # "logistic", "tanh" or "linear", one a hidden layer
    loss: str  # "bernoulli", "categorical" or "gaussian"
    l2: float
    train: tuple[np.ndarray, np.ndarray]  # inputs [n, d_in], targets [n, d_out]
    test: tuple[np.ndarray, np.ndarray]
    sample: tuple  # training and test cases of the evaluations between start and end; may be all
    initial: list[tuple[np.ndarray, np.ndarray]]  # W [d_out, d_in] and b [d_out] of each layer

    @classmethod
    def read(cls, folder, init):
        folder = pathlib.Path(folder)
        about = json.loads((folder / "problem.json").read_text())
        if about["format"] != "kfac problem 1":
            raise SystemExit(f"{folder}: expected the format 'kfac problem 1', found {about['format']!r}")

        def cases(part):
            inputs = np.load(folder / f"{part}_inputs.npy")
            targets = folder / f"{part}_targets.npy"
            return inputs, np.load(targets) if targets.exists() else inputs

        def sample(part, all_cases):
            evaluated = folder / f"{part}_evaluated.npy"
            return pick(all_cases, np.load(evaluated)) if evaluated.exists() else all_cases

        train, test = cases("train"), cases("test")
        flat, layers, at = np.load(folder / init).astype(np.float32), [], 0
        for d_in, d_out in zip(about["widths"], about["widths"][1:]):
            weight = flat[at : at + d_in * d_out].reshape(d_out, d_in)
            at += d_in * d_out
            layers.append((weight, flat[at : at + d_out]))
            at += d_out
        return cls(
            widths=about["widths"],
            hidden=about["hidden"],
            loss=about["loss"],
            l2=about["l2"],
            train=train,
            test=test,
            sample=(sample("train", train), sample("test", test)),
            initial=layers,
        )


def pick(cases, picked):
    """Some of the cases; targets that are the inputs stay so."""
    inputs, targets = cases
    chosen = inputs[picked]
    return chosen, chosen if targets is inputs else targets[picked]


def arguments(description):
    """The arguments that all programs have."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("problem", help="folder written by `kfac export-problem`")
    options.add_argument("--seconds", type=float, default=60, help="of training")
    options.add_argument("--every", type=float, default=10, help="seconds between evaluations")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--init", default="init.npy", help="file of the initial weights in the folder")
    options.add_argument("--out", required=True, help="folder for steps.jsonl")
    return options


class Batches:
    """A fresh random sample without replacement for each iteration."""

    def __init__(self, cases, size, seed):
        self.cases, self.all = cases, len(cases[0])
        self.size, self.random = min(size, self.all), np.random.default_rng(seed)

    def next(self):
        picked = self.random.choice(self.all, self.size, replace=False, shuffle=False)
        return pick(self.cases, picked)


def run(problem, step, evaluate, batches, options):
    """Steps for so many seconds of training and writes steps.jsonl in the form of `kfac train`.

    `step(batch)` returns the objective on the batch; `evaluate(cases)` the mean loss without penalty, the
    mean error and half the squared norm of the parameters. Evaluations are not counted in the seconds; the
    first and the last are on all cases.
    """
    out, seconds, every = pathlib.Path(options.out), options.seconds, options.every
    out.mkdir(parents=True, exist_ok=True)

    everything = problem.train, problem.test

    def evaluation(train, test):
        loss, error, penalty = evaluate(train)
        return {
            "train_objective": float(loss + problem.l2 * penalty),
            "train_error": float(error),
            "test_error": float(evaluate(test)[1]),
        }

    with open(out / "steps.jsonl", "w", buffering=1) as lines:

        def write(**record):
            lines.write(json.dumps(record | {"kfac": None}) + "\n")

        write(iteration=0, batch_size=0, seconds=0.0, objective=None, evaluation=evaluation(*everything))
        trained, iteration, due = 0.0, 0, every
        while trained < seconds:
            start = time.perf_counter()
            objective = float(step(batches.next()))
            trained += time.perf_counter() - start
            iteration += 1
            found = None
            if trained >= due or trained >= seconds:
                found = evaluation(*(everything if trained >= seconds else problem.sample))
                due += every
            write(
                iteration=iteration,
                batch_size=batches.size,
                seconds=trained,
                objective=objective,
                evaluation=found,
            )
            if not np.isfinite(objective):
                print(f"{out}: the objective is {objective} after {iteration} steps")
                return
