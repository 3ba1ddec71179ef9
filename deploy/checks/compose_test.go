// Package checks holds what can be said of the deployment's files without an engine or a cluster: that they are well formed, and that they keep
// the rules of the house.
package checks

import (
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

func compose(t *testing.T) *types.Project {
	t.Helper()
	opts, err := cli.NewProjectOptions([]string{"../../docker-compose.yml"}, cli.WithName("tasktracer"), cli.WithProfiles([]string{"*"}), cli.WithoutEnvironmentResolution)
	if err != nil {
		t.Fatal(err)
	}
	p, err := opts.LoadProject(t.Context())
	if err != nil {
		t.Fatalf("load docker-compose.yml: %v", err)
	}
	return p
}

func TestComposeHasAllParts(t *testing.T) {
	p := compose(t)
	for _, name := range []string{"nats-1", "nats-2", "nats-3", "ingest", "gateway", "token", "haproxy", "prometheus", "grafana", "setup", "links"} {
		if _, ok := p.Services[name]; !ok {
			t.Errorf("there is no service %s", name)
		}
	}
	for _, name := range []string{"ingest", "gateway", "token"} {
		s := p.Services[name]
		if s.Deploy == nil || s.Deploy.Replicas == nil || *s.Deploy.Replicas < 2 {
			t.Errorf("%s has fewer than two replicas", name)
		}
		if s.ContainerName != "" || len(s.Ports) > 0 {
			t.Errorf("%s has a fixed name or port: it could not be scaled", name)
		}
	}
}

func TestComposeHouseRules(t *testing.T) {
	for name, s := range compose(t).Services {
		t.Run(name, func(t *testing.T) {
			oneShot := s.Restart == "no" || s.Restart == ""
			uid, _, _ := strings.Cut(s.User, ":")
			for _, rule := range []struct {
				text string
				kept bool
			}{
				{"the file system is read-only", s.ReadOnly},
				{"the user is a number, and not root", uid != "" && uid != "0" && strings.Trim(uid, "0123456789") == ""},
				{"all capabilities are dropped", slices.Contains(s.CapDrop, "ALL") && len(s.CapAdd) == 0},
				{"no new privileges", slices.Contains(s.SecurityOpt, "no-new-privileges:true")},
				{"it is not privileged", !s.Privileged && s.NetworkMode != "host" && s.Pid == "" && s.Ipc == ""},
				{"memory is limited", s.MemLimit > 0},
				{"processes are limited", s.PidsLimit > 0},
				{"logs are rotated", s.Logging != nil && s.Logging.Options["max-size"] != "" && s.Logging.Options["max-file"] != ""},
				{"it has a health check, or ends by itself", oneShot || (s.HealthCheck != nil && !s.HealthCheck.Disable && len(s.HealthCheck.Test) > 1)},
				{"it comes back after a crash, or ends by itself", oneShot || s.Restart == "unless-stopped"},
				{"its image has a tag that is not latest", tagged(s.Image)},
			} {
				if !rule.kept {
					t.Errorf("broken rule: %s", rule.text)
				}
			}
			for _, v := range s.Volumes {
				if v.Type == types.VolumeTypeBind && (!v.ReadOnly || strings.Contains(v.Source, "docker.sock")) {
					t.Errorf("mount %s: what comes from the host is read-only, and never the engine's socket", v.Source)
				}
			}
			for key, value := range s.Environment {
				secret := strings.Contains(key, "PASSWORD") || strings.Contains(key, "SECRET") || strings.HasSuffix(key, "_TOKEN")
				if secret && value != nil && *value != "" {
					t.Errorf("environment %s: no secret stands in a file", key)
				}
			}
		})
	}
}

// tagged tells whether an image is named with a version. In the file itself, the default of a variable counts.
func tagged(image string) bool {
	_, tag, ok := strings.Cut(image[strings.LastIndexByte(image, '/')+1:], ":")
	return ok && tag != "" && tag != "latest"
}

func TestComposeWaitsForHealth(t *testing.T) {
	p := compose(t)
	for name, s := range p.Services {
		for on, d := range s.DependsOn {
			target := p.Services[on]
			want := types.ServiceConditionHealthy
			if target.Restart == "no" {
				want = types.ServiceConditionCompletedSuccessfully
			}
			if d.Condition != want {
				t.Errorf("%s waits for %s with %s, want %s", name, on, d.Condition, want)
			}
		}
	}
}

func TestOnlyTheDoorsAreOpen(t *testing.T) {
	open := map[string][]string{}
	for name, s := range compose(t).Services {
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				open[name] = append(open[name], port.Published)
			}
		}
	}
	doors := open["haproxy"]
	slices.Sort(doors)
	if len(open) != 1 || !slices.Equal(doors, []string{"8004", "8005"}) {
		t.Errorf("open to the network: %v, want haproxy's 8004 and 8005 only", open)
	}
}
