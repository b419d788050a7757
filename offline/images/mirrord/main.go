// mirrord serves an image store (the registry's file layout) read-only: manifests and blobs, nothing else.
//
// It exists because Ollama pulls a blob only through a redirect to another host name, which the usual
// registry never sends, and because a port that anybody on the machine reaches should accept no pushes.
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Name and reference cannot contain "..": both become parts of a path.
var (
	manifestPath = regexp.MustCompile(`^/v2/((?:[a-z0-9]+(?:[._-][a-z0-9]+)*/?)+)/manifests/([A-Za-z0-9_][A-Za-z0-9._-]*|sha256:[0-9a-f]{64})$`)
	blobPath     = regexp.MustCompile(`^(?:/v2/(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/?)+)?/blobs/(sha256:[0-9a-f]{64})$`)
)

type mirror struct {
	root    string // the folder that holds docker/registry/v2
	content string // what this store holds, as one hash: asked for by whoever finds the port taken
	models  string // host name under which engines pull; only they are sent on to blobs
	blobs   string // host and port that engines are sent to
}

func (m mirror) path(parts ...string) string {
	return filepath.Join(append([]string{m.root, "docker", "registry", "v2"}, parts...)...)
}

func (m mirror) blob(digest string) string {
	sha := strings.TrimPrefix(digest, "sha256:")
	return m.path("blobs", "sha256", sha[:2], sha, "data")
}

func (m mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "this registry is read-only")
		return
	}
	switch {
	case r.URL.Path == "/v2/" || r.URL.Path == "/v2":
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte("{}"))
	case r.URL.Path == "/content":
		w.Write([]byte(m.content))
	case manifestPath.MatchString(r.URL.Path):
		found := manifestPath.FindStringSubmatch(r.URL.Path)
		m.manifest(w, r, found[1], found[2])
	case blobPath.MatchString(r.URL.Path):
		m.serveBlob(w, r, blobPath.FindStringSubmatch(r.URL.Path)[1])
	default:
		refuse(w, http.StatusNotFound, "NAME_UNKNOWN", "no such path")
	}
}

func (m mirror) manifest(w http.ResponseWriter, r *http.Request, name, reference string) {
	link := m.path("repositories", name, "_manifests", "tags", reference, "current", "link")
	if sha, found := strings.CutPrefix(reference, "sha256:"); found {
		link = m.path("repositories", name, "_manifests", "revisions", "sha256", sha, "link")
	}
	digest, err := os.ReadFile(link)
	if err != nil {
		refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "no such image")
		return
	}
	data, err := os.ReadFile(m.blob(string(digest)))
	if err != nil {
		refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "the image is incomplete")
		return
	}
	var typed struct {
		MediaType string `json:"mediaType"`
	}
	if json.Unmarshal(data, &typed) != nil || typed.MediaType == "" {
		typed.MediaType = "application/vnd.docker.distribution.manifest.v2+json"
	}
	w.Header().Set("Content-Type", typed.MediaType)
	w.Header().Set("Docker-Content-Digest", string(digest))
	w.Header().Set("Etag", `"`+string(digest)+`"`)
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(data)))
}

func (m mirror) serveBlob(w http.ResponseWriter, r *http.Request, digest string) {
	file, err := os.Open(m.blob(digest))
	if err != nil {
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "no such blob")
		return
	}
	defer file.Close()
	host, _, _ := strings.Cut(r.Host, ":")
	if r.Method == http.MethodGet && m.models != "" && host == m.models {
		w.Header().Set("Location", "http://"+m.blobs+"/blobs/"+digest)
		w.WriteHeader(http.StatusTemporaryRedirect)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Docker-Content-Digest", digest)
	w.Header().Set("Etag", `"`+digest+`"`)
	http.ServeContent(w, r, "", time.Time{}, file)
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": code, "message": message}}})
}

func main() {
	m := mirror{
		root: os.Getenv("MIRROR_ROOT"), content: os.Getenv("MIRROR_CONTENT"),
		models: os.Getenv("MIRROR_MODELS_HOST"), blobs: os.Getenv("MIRROR_BLOBS_HOST"),
	}
	server := http.Server{Addr: os.Getenv("MIRROR_LISTEN"), Handler: m, ReadHeaderTimeout: 10 * time.Second}
	log.Printf("serving %s on %s", m.root, server.Addr)
	log.Fatal(server.ListenAndServe())
}
