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
(( $+functions[compdef] )) || { autoload -U compinit && compinit -i }
autoload -U +X bashcompinit && bashcompinit
` + bashCompletion

const fishCompletion = `# tt completion for fish: tt completion fish | source
function __tt_runs
  not __fish_seen_subcommand_from ls watch log flush doctor completion help version
end
function __tt_reads
  __fish_seen_subcommand_from ls watch log
end
function __tt_connects
  not __fish_seen_subcommand_from completion help version
end
complete -c tt -n __fish_use_subcommand -a ls -d 'tasks, and who runs them'
complete -c tt -n __fish_use_subcommand -a watch -d 'follow output'
complete -c tt -n __fish_use_subcommand -a log -d 'print a log'
complete -c tt -n __fish_use_subcommand -a flush -d 'send what earlier runs left'
complete -c tt -n __fish_use_subcommand -a doctor -d 'check the set-up'
complete -c tt -n __fish_use_subcommand -a completion -d 'completion for a shell'
complete -c tt -n __fish_use_subcommand -a help -d 'explain'
complete -c tt -n __fish_use_subcommand -a version -d 'which tt this is'
complete -c tt -n __tt_runs -a '(__fish_complete_command)'
complete -c tt -n '__fish_seen_subcommand_from completion' -f -a 'bash zsh fish'
complete -c tt -n '__fish_seen_subcommand_from flush doctor help version' -f
complete -c tt -n __tt_reads -f -a '(tt ls 2>/dev/null | awk "NR>1 {print \$1}")'
complete -c tt -n __tt_connects -l url -x -d 'address of the server'
complete -c tt -n __tt_connects -l token -x -d 'token'
complete -c tt -n __tt_connects -l id -x -d 'name of this host'
complete -c tt -n __tt_connects -l config -r -F -d 'file with url, token, id'
complete -c tt -n __tt_connects -l ca -r -F -d 'certificates to trust'
complete -c tt -n __tt_connects -l insecure -d 'accept any certificate'
complete -c tt -n '__fish_seen_subcommand_from flush doctor; or __tt_runs' -l spool-dir -x -a '(__fish_complete_directories)' -d 'where to keep what is not sent'
complete -c tt -n '__fish_seen_subcommand_from flush; or __tt_runs' -s q -l quiet -d 'say nothing'
complete -c tt -n __tt_runs -s n -l name -x -d 'name of the task'
complete -c tt -n __tt_runs -l tag -x -d 'key=value shown to viewers'
complete -c tt -n __tt_runs -l cwd -x -a '(__fish_complete_directories)' -d 'directory to run in'
complete -c tt -n __tt_runs -s t -d 'run in a terminal'
complete -c tt -n __tt_runs -l pty -x -a 'on off auto' -d 'run in a terminal'
complete -c tt -n __tt_runs -l grace -x -d 'from the second interrupt to the end'
complete -c tt -n __tt_runs -l linger -x -d 'how long to wait for the rest at the end'
complete -c tt -n __tt_runs -l spool -x -a 'on off' -d 'keep on disk what is not sent'
complete -c tt -n __tt_runs -l spool-limit -x -d 'how much to keep'
complete -c tt -n __tt_runs -l strict -d 'hold the command up rather than drop output'
complete -c tt -n __tt_runs -l redact -x -d 'regular expression of what is secret'
complete -c tt -n __tt_runs -l redact-env -x -a 'on off' -d 'hide values of secret variables'
complete -c tt -n __tt_runs -l debug -d 'tell what tt does'
complete -c tt -l help -d 'explain'
complete -c tt -n '__fish_seen_subcommand_from watch' -l tail -x -d 'begin with the last lines'
complete -c tt -n '__fish_seen_subcommand_from watch' -l since -x -d 'begin at a time, or a time ago'
complete -c tt -n '__fish_seen_subcommand_from watch' -l exit-code -d 'end with the code of the run'
complete -c tt -n __tt_reads -l json -d 'one object a line'
complete -c tt -n '__fish_seen_subcommand_from log' -l run -x -d 'which run'
complete -c tt -n '__fish_seen_subcommand_from log' -l lines -x -d 'which lines: 1-100, -50'
complete -c tt -n '__fish_seen_subcommand_from log' -l streams -x -a 'stdout stderr' -d 'which output'
complete -c tt -n '__fish_seen_subcommand_from log' -l strip -d 'no colours'
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
