package ops

import "runtime/debug"

// version is stamped at link time: -ldflags "-X tasktracer/pkg/ops.version=v1.2.3". The linker can only set a variable.
var version string

// Version is the program's version, stamped at link time or from the build info; "devel" where neither tells.
func Version() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "devel-" + s.Value[:12]
		}
	}
	return "devel"
}
