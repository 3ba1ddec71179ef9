package whole

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// zshTypes is a zsh that types into another one on a terminal, and shows what that one then runs: a tt that tells its arguments.
const zshTypes = `
zmodload zsh/zpty
zpty z zsh -f
expect() { local l; zpty -r z l "*$1*" && print -r -- "saw $1"; }
zpty -w z 'PS1=; source <(command tt completion zsh); tt() { print -r -- "args<""$*"">" }; print read""y'
expect ready
type() { zpty -w -n z "$1"$'\t\r'; expect "args<$2>"; }
type 'tt wat' 'watch'
type 'tt -n x --spool-l' '-n x --spool-limit'
type 'tt completion f' 'completion fish'
type 'tt --pty au' '--pty auto'
type 'tt doctor --spool-d' 'doctor --spool-dir'
zpty -d z
`

const fishCompletes = `
tt completion fish | source
for line in 'tt wat' 'tt -n x --spool-l' 'tt completion f' 'tt --pty au' 'tt doctor --spool-d' 'tt watch --exit' 'tt log x --streams stde'
  echo "[$line]" (complete -C $line)
end
`

// What tt completion prints is sourced by the shells themselves, and completes there. (bash: services/tt/testdata/script/help.txtar.)
func TestCompletionInShells(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		want []string
	}{
		"zsh":  {[]string{"zsh", "-f", "-c", zshTypes}, []string{"saw ready", "saw args<watch>", "saw args<-n x --spool-limit>", "saw args<completion fish>", "saw args<--pty auto>", "saw args<doctor --spool-dir>"}},
		"fish": {[]string{"fish", "--no-config", "-c", fishCompletes}, []string{"[tt wat] watch", "--spool-l] --spool-limit", "[tt completion f] fish", "[tt --pty au] auto", "--spool-d] --spool-dir", "--exit] --exit-code", "stde] stderr"}},
	} {
		t.Run(name, func(t *testing.T) {
			shell, err := exec.LookPath(tc.args[0])
			if err != nil {
				t.Fatalf("%v: make tools installs it", err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, shell, tc.args[1:]...)
			home := t.TempDir()
			cmd.Env = append(os.Environ(), "HOME="+home, "TERM=dumb", "PATH="+filepath.Dir(binaries.TT)+":"+os.Getenv("PATH"), "ZDOTDIR="+home, "XDG_DATA_HOME="+home)
			cmd.Dir = home
			out, err := cmd.CombinedOutput()
			for _, want := range tc.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("no %q in %q (%v)", want, out, err)
				}
			}
		})
	}
}
