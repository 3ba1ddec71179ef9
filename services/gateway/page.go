package gateway

import (
	"bytes"
	"embed"
	"errors"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"

	"tasktracer/pkg/auth"
)

// bundle is the page as make web builds it; on a fresh clone there is none, and a page says so.
//
//go:embed all:web/dist
var bundle embed.FS

const bundleDir = "web/dist"

// noticeMark is where the bundle's index.html has room for a sentence to those whose token is not good.
const noticeMark = "<!--notice-->"

const unbuilt = `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>TaskTracer</title></head><body>` + noticeMark +
	`<p>The page is not part of this program: it was built without its bundle. Run <code>make web</code> (or <code>make build</code>) and start it again.` +
	` The <a href="/api/v1/tasks">read API</a> is there.</p></body></html>`

// policy lets no script run but the bundle's, and nobody frame the page.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; " +
	"worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// secure sets the headers of every answer. With the referrer policy no address with a token is told to anybody.
func secure(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
}

// page serves the bundle, at the addresses of the older system.
type page struct {
	s     *Service
	files fs.FS
	index string
}

func (s *Service) mountPage(mux *http.ServeMux) {
	files, err := fs.Sub(bundle, bundleDir)
	if err != nil {
		panic(err) // the name is a constant
	}
	p := &page{s: s, files: files, index: unbuilt}
	if b, err := fs.ReadFile(files, "index.html"); err == nil {
		p.index = string(b)
	}
	mux.Handle("/", s.counted("page", p))
}

func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		p.html(w, http.StatusNotFound, "<h1>Not Found</h1>")
		return
	}
	task, ok := taskOf(r)
	switch {
	case r.URL.Path == "/" || ok:
		p.app(w, r, task)
	default:
		p.file(w, r)
	}
}

// taskOf reads /tasks/NAME and /tasks/NAME/; a slash of the name itself is escaped.
func taskOf(r *http.Request) (task string, ok bool) {
	rest, ok := strings.CutPrefix(r.URL.EscapedPath(), "/tasks/")
	rest = strings.TrimSuffix(rest, "/")
	if !ok || rest == "" || strings.Contains(rest, "/") {
		return "", false
	}
	task, err := pathUnescape(rest)
	return task, err == nil
}

// app answers with the page. Without a good token it has a notice, in the words that older scripts look for; the page itself may have one from before.
func (p *page) app(w http.ResponseWriter, r *http.Request, task string) {
	status, notice := p.admit(r, task)
	p.html(w, status, strings.Replace(p.index, noticeMark, notice, 1))
}

func (p *page) admit(r *http.Request, task string) (status int, notice string) {
	given := r.URL.Query()["accessToken"]
	if len(given) > 1 {
		return http.StatusBadRequest, "<h1>accessToken is given more than once</h1>"
	}
	if len(given) == 0 || given[0] == "" {
		return http.StatusOK, "<h1>no accessToken found</h1>"
	}
	c, err := p.s.verify(r.Context(), given[0], auth.Browser)
	switch {
	case errors.Is(err, auth.ErrExpired):
		return http.StatusOK, "<h1>accessToken expired</h1>"
	case auth.Code(err) != "", err == nil && task != "" && !c.Allows(task):
		return http.StatusOK, "<h1>invalid accessToken</h1>"
	case err != nil:
		p.s.log.Warn("verify a page's token", "err", err)
		return http.StatusServiceUnavailable, "<h1>tokens cannot be verified at the moment</h1>"
	}
	return http.StatusOK, ""
}

func (p *page) html(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // nobody is there to be told
}

// file serves what else is in the bundle. The names under assets/ change with their content.
func (p *page) file(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(path.Clean(r.URL.Path), "/")
	data, err := fs.ReadFile(p.files, name)
	if err != nil || strings.HasPrefix(path.Base(name), ".") {
		p.html(w, http.StatusNotFound, "<h1>Not Found</h1>")
		return
	}
	cache := "no-cache"
	if strings.HasPrefix(name, "assets/") {
		cache = "public, max-age=31536000, immutable"
	}
	w.Header().Set("Cache-Control", cache)
	info, err := fs.Stat(p.files, name)
	if err != nil {
		p.html(w, http.StatusNotFound, "<h1>Not Found</h1>")
		return
	}
	// The build leaves a compressed twin beside each file.
	w.Header().Set("Vary", "Accept-Encoding")
	if acceptsGzip(r) {
		if gz, err := fs.ReadFile(p.files, name+".gz"); err == nil {
			w.Header().Set("Content-Encoding", "gzip")
			data = gz
		}
	}
	http.ServeContent(w, r, name, info.ModTime(), bytes.NewReader(data))
}

// acceptsGzip reads Accept-Encoding; gzip;q=0 is a refusal.
func acceptsGzip(r *http.Request) bool {
	for _, part := range strings.Split(r.Header.Get("Accept-Encoding"), ",") {
		coding, weight, _ := strings.Cut(part, ";")
		if strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			return strings.Trim(strings.TrimSpace(weight), "q=0.") != "" || strings.TrimSpace(weight) == ""
		}
	}
	return false
}
