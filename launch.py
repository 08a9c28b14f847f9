"""lpml: training with few bits and with curvature.

Run one training from a config file, change any field of it, or reproduce a figure:

  python launch.py --config=configs/halp_regression.py --config.optim.bits=6 --workdir=runs/b6
  python launch.py --config=configs/halp_regression.py:tiny       (a run of seconds)
  python launch.py --config=configs/halp_regression.py --dry_run  (show, do not train)
  python launch.py --config=configs/halp_regression.py --sweep    (the runs of its sweep())
  python launch.py --config=configs/halp_regression.py --axis=optim.bits=4,8 --axis=seed=0:3
  python launch.py --config=... --tune --trials=30 --axis='optim.learning_rate=log(1e-4,1,9)'
  python launch.py --experiment=halp_regression                   (a paper's figure)
  python launch.py --book --minutes=30                            (what is missing, then pages)
  python launch.py --export=net.npz --workdir=runs/b3             (its quantised weights)
  python launch.py --list                                         (what there is)
  tensorboard --logdir runs                                       (compare runs)

The word after the colon is a variant: a size (tiny, default, paper) and, where a config names
them, a method. A run is a folder; launched again it resumes, or says that it is finished.
A sweep is a folder of runs: several axes make a product, 'optim.bits=4,8 & optim.mu=2.0,4.0' a
pair; values may be 0:5, log(1e-4,1e-1,7) or linear(0,1,5), and the axis `variant` has methods.
Ctrl-C and SIGTERM save the state first. Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

import logging
import os
import sys
import traceback

from absl import flags
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags import config_path

from lpml import commands
from lpml.build import ConfigError
from lpml.config import check_key, load, wrong_type

# The flags of a run by several processes.
TOGETHER = ("coordinator", "num_processes", "process_id", "wait_s")
ENGINE = commands.EngineSettings._fields
# The commands, and the further flags that each of them reads.
COMMANDS = {
    "list": (),
    "book": ("workdir", "size", "minutes", "docs", *ENGINE),
    "export": ("workdir",),
    "experiment": ("workdir", "size", *ENGINE),
    "config": ("workdir", "dry_run", *TOGETHER),
    "sweep": ("workdir", "dry_run", "sweep", "axis", "metric", "shard", *ENGINE),
    "tune": ("workdir", "axis", "metric", "trials"),
}
FURTHER = tuple(dict.fromkeys(name for names in COMMANDS.values() for name in names))
SIZES = ["tiny", "default", "paper"]


def define_flags(config: ConfigDict | None, argv: list[str]) -> flags.FlagValues:
    """The flags of a command line; where it has a config, its --config.field ones too."""
    settings = flags.FlagValues()
    if config is None:
        text = "config file, file.py or file.py:variant; --config.field=value changes a field"
        flags.DEFINE_string("config", None, text, settings)
    else:
        config_flags.DEFINE_config_dict("config", config, flag_values=settings, sys_argv=argv)
    for name, text in (
        ("workdir", "folder of the run (default: runs/ and its name)"),
        ("experiment", "figure to reproduce: runs, picture, verdicts"),
        ("export", "file to write the quantised network of the run --workdir to"),
        ("metric", "final metric that a sweep's settings are compared by"),
        ("shard", "i/n: run the i-th of n parts of a sweep, counted from 1"),
        ("address", "of a running Ray cluster; implies --engine=ray"),
        ("coordinator", "HOST:PORT where process 0 of several waits"),
        ("docs", "folder of the pages that --book writes (default: docs/ beside the launcher)"),
        ("devices", "GPUs that worker processes share, 0,1 (default: all)"),
    ):
        flags.DEFINE_string(name, None, text, settings)
    for name, text in (
        ("jobs", "worker processes of a sweep; implies --engine=processes"),
        ("chunk", "most points in one vectorised program (default: what fits in memory)"),
        ("num_processes", "how many processes make the run"),
        ("process_id", "which of them this is, from 0"),
        ("retries", "how often Ray tries a point again whose node died (default 3)"),
        ("trials", "how many trials a study has in the end, earlier launches included"),
    ):
        flags.DEFINE_integer(name, None, text, flag_values=settings)
    for name, text in (
        ("cpus_per_point", "CPU cores that Ray keeps for a point (default 1)"),
        ("gpus_per_point", "GPUs that Ray keeps for a point (default 0)"),
        ("memory_fraction", "of a GPU for each worker process (default: an equal share)"),
    ):
        flags.DEFINE_float(name, None, text, flag_values=settings)
    text = (
        "for --book to run what is missing, the cheapest first; 0 only writes (30, because two "
        "CPU cores make about half of the figures in it, and the same command goes on)"
    )
    flags.DEFINE_float("minutes", commands.DEFAULT_MINUTES, text, flag_values=settings)
    wait = "seconds to wait for the other processes"
    flags.DEFINE_float("wait_s", 60.0, wait, flag_values=settings)
    text = "an axis of a sweep, key=value,value; several make a product"
    flags.DEFINE_multi_string("axis", None, text, settings)
    flags.DEFINE_enum("size", "default", SIZES, "of the experiment", settings)
    text = "what runs the points of a sweep or an experiment"
    flags.DEFINE_enum("engine", None, commands.ENGINES, text, settings)
    for name, text in (
        ("sweep", "run all points of the config's sweep()"),
        ("tune", "search the axes with Optuna"),
        ("dry_run", "show config, parameters, a batch, the steps, or the points; stop"),
        ("list", "list configs and experiments"),
        (
            "book",
            "run missing experiments; write docs/REPRODUCTION.md and reproduction.html",
        ),
        ("debug", "show tracebacks"),
    ):
        flags.DEFINE_bool(name, False, text, settings)
    flags.DEFINE_bool("help", False, "show this help", settings, short_name="h")
    return settings


def main(argv: list[str]) -> int:
    """Parses, hands over, and turns errors into one sentence and an exit code."""
    logging.getLogger("lpml").setLevel(logging.INFO)
    messages = logging.StreamHandler()
    logging.getLogger().addHandler(messages)
    try:
        return dispatch(*parse(argv))
    except commands.Stopped as stopped:
        print(stopped, file=sys.stderr)
        return 0
    except BrokenPipeError:  # the reader of our output, `| head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted; the same command resumes at the last checkpoint", file=sys.stderr)
        return 1
    except Exception as error:
        if "--debug" in argv:
            traceback.print_exc()
        # what a library says may have many lines
        print(" ".join(commands.sentence(error).split()), file=sys.stderr)
        return 2 if isinstance(error, commands.USAGE_ERRORS) else 1
    finally:
        logging.getLogger().removeHandler(messages)


def parse(argv: list[str]) -> tuple[flags.FlagValues, str | None]:
    """Flags with the config, and the path it is from; ConfigError for what is wrong."""
    argv = _uniform(argv)
    paths = [arg.partition("=")[2] for arg in argv if arg.startswith("--config=")]
    argv = [arg for arg in argv if not arg.startswith("--config=")]
    overrides = [arg for arg in argv if arg.startswith("--config.")]
    if len(paths) > 1:
        raise ConfigError(f"--config is given {len(paths)} times; one run has one config")
    if overrides and not paths:
        raise ConfigError(f"{overrides[0]} needs a config: add --config=FILE")
    config = load(paths[0]) if paths else None
    for arg in overrides:
        check_key(config, arg.partition("=")[0].partition(".")[2])
    try:
        settings = define_flags(config, argv)
        stray = settings(argv)[1:]
    except flags.UnrecognizedFlagError as error:
        raise ConfigError(f"{error}; --help lists the flags, --dry_run the settings") from error
    except (flags.Error, ValueError, TypeError, AttributeError, LookupError) as error:
        raise ConfigError(_wrong_value(error, overrides, config)) from error
    if stray:
        raise ConfigError(
            f"the argument {stray[0]!r} is not understood; settings are written "
            "--config.field=value"
        )
    return settings, paths[0] if paths else None


def _uniform(argv):
    """absl knows `-x` and `--config FILE` too: here as `--x` and `--config=FILE`."""
    words = argv[:1]
    for arg in argv[1:]:
        if words[-1] == "--config":
            words[-1] += f"={arg}"
        else:
            words.append("-" + arg if arg[:1] == "-" and arg[1:2].isalpha() else arg)
    return words


def _wrong_value(error, overrides, config):
    """What absl says of a value, or the type wanted where the value is of the wrong one."""
    for arg in overrides:
        if str(error).startswith(f"flag {arg}: "):
            key, _, value = arg.partition(".")[2].partition("=")
            return wrong_type(key, value, config_path.get_type(key, config))
    flag, _, what = str(error).removeprefix("flag ").partition(": ")
    if what.startswith(("invalid literal", "could not convert")):
        return f"{flag} must be a number"
    return str(error)


def dispatch(settings: flags.FlagValues, path: str | None) -> int:
    """Runs the one command that the flags ask for."""
    given = [
        name
        for name in settings
        if settings[name].present
        and settings[name].value is not None
        and settings[name].value is not False
    ]
    command = _command(settings, given, path)
    if command is None:
        print(__doc__)
        print(settings.get_help().partition("\nabsl.flags:")[0])
        return 0 if settings.help else 2
    if command == "list":
        return commands.list_all()
    if command == "export":
        return commands.export(settings.export, settings.workdir)
    overrides = config_flags.get_override_values(settings["config"]) if path else {}
    if command == "config":
        together = commands.meeting(
            settings.coordinator, settings.num_processes, settings.process_id, settings.wait_s
        )
        if settings.dry_run:
            if together:
                raise ConfigError("--coordinator does not go with --dry_run; leave it out")
            return commands.dry_run(settings.config)
        return commands.run(
            settings.config, str(path), overrides, settings.workdir, together=together
        )
    if command == "tune":
        return commands.tune(
            commands.trial_space(str(path), overrides),
            settings.workdir,
            axes=settings.axis or (),
            metric=settings.metric,
            trials=settings.trials,
        )
    wanted = commands.EngineSettings(*(settings[name].value for name in ENGINE))
    engine = commands.choose_engine(wanted)
    if command == "book":
        return commands.book(
            settings.workdir,
            settings.docs,
            size=settings.size,
            minutes=settings.minutes,
            engine=engine,
        )
    if command == "experiment":
        return commands.experiment(
            settings.experiment, settings.size, settings.workdir, engine=engine
        )
    return commands.sweep(
        commands.make_space(
            str(path), base=overrides, sweep=settings.sweep, axes=settings.axis or ()
        ),
        settings.workdir,
        engine=engine,
        metric=settings.metric,
        shard=settings.shard,
        dry_run=settings.dry_run,
    )


def _command(settings, given, path):
    """Name of the command, None for the help; ConfigError for flags that do not fit it."""
    asked = [name for name in COMMANDS if name in given or (name == "config" and path)]
    several = [name for name in ("tune", "sweep", "axis") if name in given]
    if settings.help:
        return None
    asked = [name for name in asked if name not in ("sweep", "tune")]
    if not asked and several:
        raise ConfigError(f"--{several[0]} needs a config: add --config=FILE")
    if len(asked) > 1:
        raise ConfigError(f"--{asked[0]} and --{asked[1]} do not go together")
    if not asked:
        lone = next((name for name in FURTHER if name in given), None)
        if lone is not None:
            takers = [f"--{name}" for name, read in COMMANDS.items() if lone in read]
            raise ConfigError(
                f"--{lone} alone does nothing: it goes with {' or '.join(takers)}; add one"
            )
        if "debug" in given:
            raise ConfigError("--debug alone does nothing: add a command; --help shows them")
        return None
    command = asked[0]
    if command == "config" and several:
        command = "tune" if several[0] == "tune" else "sweep"
    for name in FURTHER:
        if name in given and name not in COMMANDS[command]:
            remedy = "leave it out"
            if command == "config" and name in COMMANDS["sweep"]:
                remedy = "add --sweep or --axis, or leave it out"
            raise ConfigError(f"--{name} means nothing together with --{command}; {remedy}")
    return command


if __name__ == "__main__":
    commands.leave(main(sys.argv))
