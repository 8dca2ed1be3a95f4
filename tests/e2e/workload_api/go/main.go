// Two clients that are not Spangate's: go-spiffe at the Workload API, and go-oidc at the authority's public keys. What
// they find is printed as JSON, a line for each. Knows no Spangate.
//
//	program spiffe OTHER_TRUST_DOMAIN    until standard input ends; the socket is in SPIFFE_ENDPOINT_SOCKET
//	program oidc ISSUER                  a token on standard input
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

const (
	audience = "https://orders.example"
	// Nothing that is asked takes longer, not even a rotation on a loaded machine.
	patience = 150 * time.Second
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	if len(os.Args) != 3 {
		return fmt.Errorf("two arguments are needed")
	}
	switch os.Args[1] {
	case "spiffe":
		return spiffe(ctx, os.Args[2])
	case "oidc":
		return openID(ctx, os.Args[2])
	}
	return fmt.Errorf("there is no %q", os.Args[1])
}

var printing sync.Mutex

func say(what map[string]any) {
	printing.Lock()
	defer printing.Unlock()
	_ = json.NewEncoder(os.Stdout).Encode(what)
}

func spiffe(ctx context.Context, other string) error {
	source, err := workloadapi.NewX509Source(ctx)
	if err != nil {
		return err
	}
	defer source.Close()
	tokens, err := workloadapi.NewJWTSource(ctx)
	if err != nil {
		return err
	}
	defer tokens.Close()
	svid, err := source.GetX509SVID()
	if err != nil {
		return err
	}
	peers, err := handshake(source, svid.ID)
	if err != nil {
		return err
	}
	found, err := token(ctx, tokens, other)
	if err != nil {
		return err
	}
	found["id"], found["peers"] = svid.ID.String(), peers
	say(found)

	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	watch := &watcher{}
	_ = workloadapi.WatchX509Context(ctx, watch)
	// The source follows as well, by a stream of its own.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if svid, err = source.GetX509SVID(); err != nil {
			return err
		}
		if svid.Certificates[0].Equal(watch.last) {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the source has another certificate than the watcher")
		}
	}
	uses, err := rootOver(svid, source)
	if err != nil {
		return err
	}
	peers, err = handshake(source, svid.ID)
	say(map[string]any{"uses": uses, "peers": peers})
	return err
}

// Both ends of a connection with mutual TLS, each verified by go-spiffe's own rules.
func handshake(source *workloadapi.X509Source, id spiffeid.ID) ([]string, error) {
	left, right := net.Pipe()
	server := tls.Server(left, tlsconfig.MTLSServerConfig(source, source, tlsconfig.AuthorizeID(id)))
	client := tls.Client(right, tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeID(id)))
	ended := make(chan error, 1)
	go func() { ended <- server.Handshake() }()
	if err := client.Handshake(); err != nil {
		return nil, err
	}
	if err := <-ended; err != nil {
		return nil, err
	}
	var found []string
	for _, end := range []*tls.Conn{server, client} {
		peer, err := x509svid.IDFromCert(end.ConnectionState().PeerCertificates[0])
		if err != nil {
			return nil, err
		}
		found = append(found, peer.String())
	}
	return found, nil
}

func token(ctx context.Context, tokens *workloadapi.JWTSource, other string) (map[string]any, error) {
	svid, err := tokens.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience})
	if err != nil {
		return nil, err
	}
	text := svid.Marshal()
	here, err := jwtsvid.ParseAndValidate(text, tokens, []string{audience})
	if err != nil {
		return nil, err
	}
	there, err := workloadapi.ValidateJWTSVID(ctx, text, audience)
	if err != nil {
		return nil, err
	}
	_, wrongHere := jwtsvid.ParseAndValidate(text, tokens, []string{"https://other.example"})
	_, wrongThere := workloadapi.ValidateJWTSVID(ctx, text, "https://other.example")
	_, noKeys := tokens.GetJWTBundleForTrustDomain(spiffeid.RequireTrustDomainFromString(other))
	return map[string]any{
		"token":      text,
		"valid":      []string{here.ID.String(), there.ID.String()},
		"refused":    []bool{wrongHere != nil, wrongThere != nil},
		"other_keys": noKeys == nil,
	}, nil
}

type watcher struct {
	before string
	last   *x509.Certificate
}

func (w *watcher) OnX509ContextUpdate(update *workloadapi.X509Context) {
	w.last = update.DefaultSVID().Certificates[0]
	trusts := map[string][]string{}
	for _, bundle := range update.Bundles.Bundles() {
		trusts[bundle.TrustDomain().Name()] = fingerprints(bundle)
	}
	uses, err := rootOver(update.DefaultSVID(), update.Bundles)
	if err != nil {
		say(map[string]any{"problem": err.Error()})
		return
	}
	now := fmt.Sprint(uses, trusts)
	if now != w.before {
		say(map[string]any{"uses": uses, "trusts": trusts})
	}
	w.before = now
}

func (w *watcher) OnX509ContextWatchError(err error) {
	if !strings.Contains(err.Error(), "context canceled") {
		say(map[string]any{"problem": err.Error()})
	}
}

func fingerprints(bundle *x509bundle.Bundle) []string {
	found := []string{}
	for _, root := range bundle.X509Authorities() {
		sum := sha256.Sum256(root.Raw)
		found = append(found, hex.EncodeToString(sum[:]))
	}
	sort.Strings(found)
	return found
}

func rootOver(svid *x509svid.SVID, bundles x509bundle.Source) (string, error) {
	_, chains, err := x509svid.Verify(svid.Certificates, bundles)
	if err != nil {
		return "", err
	}
	chain := chains[0]
	sum := sha256.Sum256(chain[len(chain)-1].Raw)
	return hex.EncodeToString(sum[:]), nil
}

func openID(ctx context.Context, issuer string) error {
	text, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		return err
	}
	text = strings.TrimSpace(text)
	provider, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		return err
	}
	verifier := provider.Verifier(&oidc.Config{ClientID: audience})
	good, err := verifier.Verify(ctx, text)
	if err != nil {
		return err
	}
	// Another first character of the payload's middle: the signature is not over it.
	head, rest, _ := strings.Cut(text, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	middle := len(payload) / 2
	changed := byte('A')
	if payload[middle] == changed {
		changed = 'B'
	}
	forged := head + "." + payload[:middle] + string(changed) + payload[middle+1:] + "." + signature
	_, forgery := verifier.Verify(ctx, forged)
	_, elsewhere := provider.Verifier(&oidc.Config{ClientID: "https://other.example"}).Verify(ctx, text)
	_, foreign := oidc.NewProvider(ctx, issuer+"/")
	say(map[string]any{
		"subject":  good.Subject,
		"issuer":   good.Issuer,
		"audience": good.Audience,
		"seconds":  int(good.Expiry.Sub(good.IssuedAt).Seconds()),
		"refused":  []bool{forgery != nil, elsewhere != nil, foreign != nil},
	})
	return nil
}
