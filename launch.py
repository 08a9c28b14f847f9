"""lpml: training with few bits and with curvature.

Run one training from a config file, change any field of it, or reproduce a figure:

  python launch.py --config=configs/halp_regression.py --config.optim.bits=6 --workdir=runs/b6
  python launch.py --config=configs/halp_regression.py:tiny       (a run of seconds)
  python launch.py --config=configs/halp_regression.py --dry_run  (show, do not train)
  python launch.py --experiment=halp_regression                   (a paper's figure)
  python launch.py --list                                         (what there is)
  tensorboard --logdir runs                                       (compare runs)

The word after the colon is a variant: a size (tiny, default, paper) and, where a config names
them, a method. A run is a folder; launched again it resumes, or says that it is finished.
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
from lpml.build import ConfigError, in_words
from lpml.config import check_key, load

# The commands, and the further flags that each of them reads.
COMMANDS = {
    "list": (),
    "book": ("workdir",),
    "experiment": ("workdir", "size"),
    "config": ("workdir", "dry_run"),
}


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
    ):
        flags.DEFINE_string(name, None, text, settings)
    sizes = ["tiny", "default", "paper"]
    flags.DEFINE_enum("size", "default", sizes, "of the experiment", settings)
    for name, text in (
        ("dry_run", "show config, parameters, a batch, the steps; stop"),
        ("list", "list configs and experiments"),
        ("book", "write docs/REPRODUCTION.md from finished experiments"),
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
            kind = config_path.get_type(key, config)
            wanted = (
                "a dict in Python's words, {'name': ..., 'flag': False}"
                if kind is ConfigDict
                else in_words(kind)
            )
            return f"config.{key} = {value} must be {wanted}"
    return str(error)


def dispatch(settings: flags.FlagValues, path: str | None) -> int:
    """Runs the one command that the flags ask for."""
    given = [
        name
        for name in settings
        if settings[name].present and settings[name].value not in (None, False)
    ]
    asked = [name for name in COMMANDS if name in given or (name == "config" and path)]
    if settings.help or not asked:
        print(__doc__)
        print(settings.get_help().partition("\nabsl.flags:")[0])
        return 0 if settings.help else 2
    if len(asked) > 1:
        raise ConfigError(f"--{asked[0]} and --{asked[1]} do not go together")
    for name in ("workdir", "size", "dry_run"):
        if name in given and name not in COMMANDS[asked[0]]:
            raise ConfigError(
                f"--{name} means nothing together with --{asked[0]}; leave it out"
            )
    if settings.list:
        return commands.list_all()
    if settings.book:
        return commands.book(settings.workdir or "runs")
    if settings.experiment is not None:
        return commands.experiment(settings.experiment, settings.size, settings.workdir)
    if settings.dry_run:
        return commands.dry_run(settings.config)
    overrides = config_flags.get_override_values(settings["config"])
    return commands.run(settings.config, str(path), overrides, settings.workdir)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
