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
import sys

from absl import flags
from ml_collections import config_flags

from lpml import commands
from lpml.build import ConfigError
from lpml.config import check_key, load

FLAGS = flags.FlagValues()
config_flags.DEFINE_config_file(
    "config", None, "config file, file.py or file.py:variant", flag_values=FLAGS
)


def define_flags() -> None:
    """The flags besides --config."""
    flags.DEFINE_string(
        "workdir", None, "folder of the run (default: runs/ and its name)", flag_values=FLAGS
    )
    flags.DEFINE_string(
        "experiment", None, "figure to reproduce: runs, picture, verdicts", flag_values=FLAGS
    )
    flags.DEFINE_enum(
        "size", "default", ["tiny", "default", "paper"], "of the experiment", flag_values=FLAGS
    )
    flags.DEFINE_bool(
        "dry_run", False, "show config, parameters, a batch, the steps; stop", flag_values=FLAGS
    )
    flags.DEFINE_bool("list", False, "list configs and experiments", flag_values=FLAGS)
    flags.DEFINE_bool(
        "book", False, "write docs/REPRODUCTION.md from finished experiments", flag_values=FLAGS
    )
    flags.DEFINE_bool("debug", False, "show tracebacks", flag_values=FLAGS)
    flags.DEFINE_bool("help", False, "show this help", short_name="h", flag_values=FLAGS)


def main(argv: list[str]) -> int:
    """Parses, hands over, and turns errors into one sentence and an exit code."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("lpml").setLevel(logging.INFO)
    debug = "--debug" in argv
    try:
        return dispatch(parse(argv))
    except commands.USAGE_ERRORS as error:
        code, message = 2, str(error)
        if debug:
            raise
    except Exception as error:
        code, message = 1, commands.sentence(error)
        if debug:
            raise
    except commands.Stopped as stopped:
        code, message = 0, str(stopped)
    print(message, file=sys.stderr)
    return code


def parse(argv: list[str]) -> flags.FlagValues:
    """Flags and config, or ConfigError with one sentence for what is wrong."""
    paths = [arg.partition("=")[2] for arg in argv if arg.startswith("--config=")]
    overrides = [arg for arg in argv[1:] if arg.startswith(("--config.", "--noconfig."))]
    if paths:
        config = load(paths[-1])
        for arg in overrides:
            check_key(config, arg.partition("=")[0].removeprefix("--no").removeprefix("--")[7:])
    elif overrides:
        raise ConfigError(f"{overrides[0]} needs --config=FILE before it")
    try:
        stray = FLAGS(argv)[1:]
    except (flags.Error, ValueError, TypeError, AttributeError, KeyError) as error:
        raise ConfigError(str(error).strip().replace("\n", "; ")) from error
    if stray:
        raise ConfigError(
            f"the argument {stray[0]!r} is not understood; settings are written "
            "--config.field=value"
        )
    return FLAGS


def dispatch(settings: flags.FlagValues) -> int:
    """Runs the one command that the flags ask for."""
    asked = [
        name for name in ("list", "book", "experiment", "config") if settings[name].present
    ]
    if settings.help or not asked:
        print(__doc__)
        print(FLAGS.main_module_help())
        return 0 if settings.help else 2
    if len(asked) > 1:
        raise ConfigError(f"--{asked[0]} and --{asked[1]} do not go together")
    if settings.list:
        return commands.list_all()
    if settings.book:
        return commands.book(settings.workdir or "runs")
    if settings.experiment:
        return commands.experiment(settings.experiment, settings.size, settings.workdir)
    path = settings["config"].config_filename
    overrides = settings["config"].override_values
    if settings.dry_run:
        return commands.dry_run(settings.config)
    return commands.run(settings.config, path, overrides, settings.workdir)


if __name__ == "__main__":
    define_flags()
    sys.exit(main(sys.argv))
