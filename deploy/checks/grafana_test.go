package checks

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"sigs.k8s.io/yaml"
)

// datasources and providers are Grafana's provisioning files, as far as they are used here: any other field is an error.
type datasources struct {
	APIVersion  int `json:"apiVersion"`
	Datasources []struct {
		Name, UID, Type, Access, URL string
		IsDefault                    bool           `json:"isDefault"`
		JSONData                     map[string]any `json:"jsonData"`
	} `json:"datasources"`
}

type providers struct {
	APIVersion int `json:"apiVersion"`
	Providers  []struct {
		Name, Type      string
		DisableDeletion bool `json:"disableDeletion"`
		AllowUIUpdates  bool `json:"allowUiUpdates"`
		Options         struct{ Path string }
	} `json:"providers"`
}

func decode(t *testing.T, path string, to any) {
	t.Helper()
	text, err := yaml.YAMLToJSONStrict([]byte(read(t, path)))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// TestGrafanaProvisioning: Grafana finds the dashboard where the compose file mounts it, and Prometheus at the name and port of its service.
func TestGrafanaProvisioning(t *testing.T) {
	var ds datasources
	decode(t, "../grafana/provisioning/datasources/prometheus.yml", &ds)
	if ds.APIVersion != 1 || len(ds.Datasources) != 1 {
		t.Fatalf("datasources: %+v", ds)
	}
	if s := ds.Datasources[0]; s.Type != "prometheus" || s.UID != "prometheus" || s.Access != "proxy" || s.URL != "http://prometheus:9090" || !s.IsDefault {
		t.Errorf("datasource: %+v", s)
	}
	var ps providers
	decode(t, "../grafana/provisioning/dashboards/tasktracer.yml", &ps)
	if ps.APIVersion != 1 || len(ps.Providers) != 1 || ps.Providers[0].Type != "file" {
		t.Fatalf("providers: %+v", ps)
	}
	grafana := compose(t).Services["grafana"]
	mounted := map[string]string{}
	for _, v := range grafana.Volumes {
		mounted[v.Target] = filepath.Base(v.Source)
	}
	if dir := ps.Providers[0].Options.Path; mounted[dir] != "dashboards" {
		t.Errorf("dashboards are looked for in %s, where %q is mounted", dir, mounted[dir])
	}
	if mounted["/etc/grafana/provisioning"] != "provisioning" {
		t.Errorf("the provisioning is not mounted: %v", mounted)
	}
}

// TestDashboardIsWellFormed: what Grafana would show as an error, or on top of another panel.
func TestDashboardIsWellFormed(t *testing.T) {
	type query struct {
		Expr, RefID, LegendFormat string
		Datasource                struct{ Type, UID string }
	}
	var d struct {
		SchemaVersion int
		Panels        []struct {
			Type, Title string
			Datasource  struct{ Type, UID string }
			GridPos     struct{ H, W, X, Y int }
			Targets     []query
		}
	}
	if err := json.Unmarshal([]byte(read(t, "../grafana/dashboards/tasktracer.json")), &d); err != nil {
		t.Fatal(err)
	}
	taken := map[[2]int]string{}
	for _, p := range d.Panels {
		g := p.GridPos
		if g.W < 1 || g.H < 1 || g.X < 0 || g.X+g.W > 24 {
			t.Errorf("%s: at %+v, beside the grid of 24", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("%s lies on top of %s", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		switch p.Type {
		case "row":
			continue
		case "stat", "timeseries":
		default:
			t.Errorf("%s: a panel of type %q", p.Title, p.Type)
		}
		if p.Datasource.UID != "prometheus" || len(p.Targets) == 0 {
			t.Errorf("%s: datasource %+v, %d queries", p.Title, p.Datasource, len(p.Targets))
		}
		seen := map[string]bool{}
		for _, q := range p.Targets {
			if q.RefID == "" || seen[q.RefID] || strings.TrimSpace(q.Expr) == "" {
				t.Errorf("%s: query %+v has no name of its own, or asks nothing", p.Title, q)
			}
			seen[q.RefID] = true
		}
	}
	if d.SchemaVersion < 36 {
		t.Errorf("schema version %d", d.SchemaVersion)
	}
}

// TestDashboardKeepsGrafanasSchema decodes the dashboard with Grafana's own types, panels' options and queries included: an unknown field, a wrong type or a
// missing one is an error.
func TestDashboardKeepsGrafanasSchema(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	var d dashboard.Dashboard
	if err := d.UnmarshalJSONStrict([]byte(read(t, "../grafana/dashboards/tasktracer.json"))); err != nil && err.Error() != "" { // for the types' errors an empty list is one, too
		t.Errorf("decode: %v", err)
	}
	if err := d.Validate(); err != nil {
		t.Errorf("validate: %v", err)
	}
	if len(d.Panels) < 30 {
		t.Errorf("%d panels decoded", len(d.Panels))
	}
}
