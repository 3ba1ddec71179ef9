package checks

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"tasktracer/services/tasktracer/secrets"
)

// objects builds the kustomization and decodes each object strictly: an unknown or doubled field is an error.
func objects(t *testing.T) []runtime.Object {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), "../k8s")
	if err != nil {
		t.Fatalf("kustomize deploy/k8s: %v", err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		appsv1.AddToScheme, autoscalingv2.AddToScheme, batchv1.AddToScheme, corev1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	var all []runtime.Object
	for _, r := range built.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		o, _, err := decoder.Decode(text, nil, nil)
		if err != nil {
			t.Errorf("%s: %v", r.CurId(), err)
			continue
		}
		all = append(all, o)
	}
	return all
}

func TestKubernetesObjects(t *testing.T) {
	kinds := map[string]int{}
	for _, o := range objects(t) {
		kinds[fmt.Sprintf("%T", o)]++
		switch o := o.(type) {
		case *appsv1.Deployment:
			checkDeployment(t, o)
		case *batchv1.Job:
			checkPod(t, o.Name, o.Spec.Template.Spec)
		}
	}
	for kind, want := range map[string]int{
		"*v1.Deployment": 3, "*v1.PodDisruptionBudget": 3, "*v2.HorizontalPodAutoscaler": 2, "*v1.Job": 1, "*v1.NetworkPolicy": 2, "*v1.Service": 3,
	} {
		if kinds[kind] < want {
			t.Errorf("%d of %s, want at least %d", kinds[kind], kind, want)
		}
	}
}

func checkDeployment(t *testing.T, d *appsv1.Deployment) {
	t.Helper()
	pod := d.Spec.Template.Spec
	checkPod(t, d.Name, pod)
	for _, c := range pod.Containers {
		if c.ReadinessProbe == nil || c.ReadinessProbe.HTTPGet == nil || c.ReadinessProbe.HTTPGet.Path != "/readyz" {
			t.Errorf("%s: readiness is not /readyz", d.Name)
		}
		if c.LivenessProbe == nil || c.LivenessProbe.HTTPGet == nil || c.LivenessProbe.HTTPGet.Path != "/healthz" {
			t.Errorf("%s: liveness is not /healthz", d.Name)
		}
		if c.Resources.Requests.Cpu().IsZero() {
			t.Errorf("%s: no CPU is requested: the autoscaler could not reckon", d.Name)
		}
	}
	// 3 s of drain and 20 s of stop, with room.
	if s := pod.TerminationGracePeriodSeconds; s == nil || *s < 30 {
		t.Errorf("%s: the grace period is shorter than a stop takes", d.Name)
	}
}

func checkPod(t *testing.T, name string, pod corev1.PodSpec) {
	t.Helper()
	if s := pod.SecurityContext; s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.SeccompProfile == nil {
		t.Errorf("%s: may run as root, or without seccomp", name)
	}
	if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		t.Errorf("%s: is given an account at the API server", name)
	}
	for _, c := range pod.Containers {
		s := c.SecurityContext
		if s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation ||
			s.Capabilities == nil || len(s.Capabilities.Drop) != 1 || s.Capabilities.Drop[0] != "ALL" {
			t.Errorf("%s: may write its file system, gain privileges, or has capabilities", name)
		}
		if c.Resources.Limits.Memory().IsZero() {
			t.Errorf("%s: memory is not limited", name)
		}
	}
}

// TestNATSValues holds what the chart's values add to its pods to the API's types, and to what `tasktracer setup` makes: the roles' permissions must be where
// the configuration includes them from.
func TestNATSValues(t *testing.T) {
	type patch[V any] struct {
		Op, Path string
		Value    V
	}
	var values struct {
		Config struct {
			Merge map[string]any
		}
		Container struct {
			Patch []patch[corev1.VolumeMount]
		}
		PodTemplate struct {
			Patch []patch[corev1.Volume]
		}
	}
	text := read(t, "../k8s/nats-values.yaml")
	if err := yaml.Unmarshal([]byte(text), &values); err != nil {
		t.Fatal(err)
	}
	if len(values.Container.Patch) != 1 || len(values.PodTemplate.Patch) != 1 {
		t.Fatalf("patches: %+v, %+v, want one each", values.Container.Patch, values.PodTemplate.Patch)
	}
	mount, volume := values.Container.Patch[0].Value, values.PodTemplate.Patch[0].Value
	if mount.Name != volume.Name || volume.Projected == nil {
		t.Fatalf("mounted is %q, there is %+v", mount.Name, volume)
	}
	include, _ := values.Config.Merge["accounts$include"].(string)
	if got := filepath.Join("/etc/nats-config", include); got != filepath.Join(mount.MountPath, "accounts.conf") {
		t.Errorf("included is %s, mounted at %s", got, mount.MountPath)
	}
	dir := t.TempDir()
	if err := secrets.Generate(dir, []string{"nats"}); err != nil {
		t.Fatal(err)
	}
	paths := map[string]bool{}
	for _, source := range volume.Projected.Sources {
		switch {
		case source.ConfigMap != nil:
			for _, item := range source.ConfigMap.Items {
				paths[item.Path] = true
			}
		case source.Secret != nil:
			for _, item := range source.Secret.Items {
				paths[item.Path] = true
				if _, err := os.Stat(filepath.Join(dir, item.Key)); err != nil {
					t.Errorf("setup does not make %s", item.Key)
				}
			}
		}
	}
	if !paths["accounts.conf"] || !paths["secrets/nats-secrets.conf"] || !strings.Contains(read(t, "../nats/accounts.conf"), `include "secrets/nats-secrets.conf"`) {
		t.Errorf("projected: %v", paths)
	}
}
