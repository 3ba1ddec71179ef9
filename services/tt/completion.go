package main

import (
	"context"
	"errors"
	"fmt"
)

const bashCompletion = `# tt completion for bash: eval "$(tt completion bash)"
_tt() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} i
  if ((COMP_CWORD == 1)) && [[ $cur != -* ]]; then
    COMPREPLY=($(compgen -W "ls watch log flush doctor completion help version" -- "$cur") $(compgen -c -- "$cur"))
    return
  fi
  case ${COMP_WORDS[1]} in
    completion) COMPREPLY=($(compgen -W "bash zsh fish" -- "$cur")); return ;;
    ls|watch|log)
      if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "--url --token --config --ca --insecure --json --since --tail --exit-code --run --lines --streams --strip" -- "$cur"))
      elif ((COMP_CWORD == 2)); then
        COMPREPLY=($(compgen -W "$(tt ls 2>/dev/null | awk 'NR>1 {print $1}')" -- "$cur"))
      else
        COMPREPLY=($(compgen -W "$(tt ls "${COMP_WORDS[2]}" 2>/dev/null | awk 'NR>1 {print $1}')" -- "$cur"))
      fi
      return ;;
    flush|doctor) COMPREPLY=($(compgen -W "--url --token --config --ca --insecure --spool-dir" -- "$cur")); return ;;
  esac
  case $prev in
    --pty) COMPREPLY=($(compgen -W "on off auto" -- "$cur")); return ;;
    --spool|--redact-env) COMPREPLY=($(compgen -W "on off" -- "$cur")); return ;;
    --cwd|--spool-dir) COMPREPLY=($(compgen -d -- "$cur")); return ;;
    --config|--ca) COMPREPLY=($(compgen -f -- "$cur")); return ;;
    -n|--name|--id|--url|--token|--tag|--grace|--linger|--spool-limit|--redact) return ;;
  esac
  if [[ $cur == -* ]]; then
    COMPREPLY=($(compgen -W "-n -t -q --name --id --url --token --config --ca --insecure --tag --cwd --quiet --pty --grace --linger --spool --spool-dir --spool-limit --strict --redact --redact-env --debug --help" -- "$cur"))
    return
  fi
  COMPREPLY=($(compgen -c -- "$cur") $(compgen -f -- "$cur"))
}
complete -o default -F _tt tt
`

const zshCompletion = `#compdef tt
# tt completion for zsh: source <(tt completion zsh)
autoload -U +X bashcompinit && bashcompinit
` + bashCompletion

const fishCompletion = `# tt completion for fish: tt completion fish | source
complete -c tt -n __fish_use_subcommand -a 'ls' -d 'tasks, and who runs them'
complete -c tt -n __fish_use_subcommand -a 'watch' -d 'follow output'
complete -c tt -n __fish_use_subcommand -a 'log' -d 'print a log'
complete -c tt -n __fish_use_subcommand -a 'flush' -d 'send what earlier runs left'
complete -c tt -n __fish_use_subcommand -a 'doctor' -d 'check the set-up'
complete -c tt -n '__fish_seen_subcommand_from watch log ls' -a '(tt ls 2>/dev/null | awk "NR>1 {print \$1}")' -f
complete -c tt -s n -l name -x -d 'name of the task'
complete -c tt -s t -d 'run in a terminal'
complete -c tt -s q -l quiet -d 'say nothing'
complete -c tt -l pty -x -a 'on off auto' -d 'run in a terminal'
complete -c tt -l cwd -x -a '(__fish_complete_directories)' -d 'directory to run in'
complete -c tt -l tag -x -d 'key=value shown to viewers'
complete -c tt -l redact -x -d 'regular expression of what is secret'
complete -c tt -l strict -d 'hold the command up rather than drop output'
complete -c tt -l linger -x -d 'how long to wait for the rest at the end'
`

// completionCommand prints a shell's completion.
func completionCommand(_ context.Context, args []string, sys system) error {
	shell := ""
	if len(args) == 1 {
		shell = args[0]
	}
	text, ok := map[string]string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}[shell]
	if !ok {
		return &usageError{errors.New("which shell? tt completion bash, zsh or fish")}
	}
	fmt.Fprint(sys.stdout, text)
	return nil
}
