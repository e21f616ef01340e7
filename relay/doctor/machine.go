package doctor

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery/client"
)

const (
	// skewLimit and skewWrong are the seconds from which on a clock draws a warning, and fails: receivers of Standard
	// Webhooks refuse what is five minutes off.
	skewLimit = 30
	skewWrong = 240
	// lookupTime is how long the resolver has for one name.
	lookupTime = 5 * time.Second
	// spareFiles are the descriptors that the relay needs besides connections: the queue's, the log's.
	spareFiles = 256
	// connections are those of both listeners at most.
	connections = 4096 + 256
)

// clock asks the kernel whether something sets the clock, and the relay how the endpoints' clocks differ.
func (p *patient) clock() (findings []finding) {
	var timex unix.Timex
	state, err := unix.Adjtimex(&timex)
	switch {
	case err != nil:
		findings = append(findings, finding{warn, "clock", fmt.Sprintf("the kernel does not say whether it is set by something: %s", err)})
	case state == unix.TIME_ERROR || timex.Status&unix.STA_UNSYNC != 0:
		findings = append(findings, finding{warn, "clock", "nothing sets it: timedatectl set-ntp true, or start chrony; the timestamps that are signed go by it, and across a reboot so do retention and dedup window"})
	default:
		findings = append(findings, finding{ok, "clock", "is set by something (NTP)"})
	}
	if p.running == nil {
		return findings
	}
	skew := p.running.ClockSkew
	if skew == nil {
		return append(findings, finding{warn, "clock skew", "not known: no endpoint answered within the hour; POST /endpoints/{name}/test asks one"})
	}
	apart, word := time.Duration(math.Abs(*skew)*float64(time.Second)).Round(100*time.Millisecond), "ahead of"
	if *skew < 0 {
		word = "behind"
	}
	says := fmt.Sprintf("the endpoints' clocks are %s %s this one", apart, word)
	switch {
	case math.Abs(*skew) > skewWrong:
		return append(findings, finding{fail, "clock skew", says + ": receivers refuse signatures that far off; set the clock (timedatectl)"})
	case math.Abs(*skew) > skewLimit:
		return append(findings, finding{warn, "clock skew", says + ": set the clock (timedatectl)"})
	}
	if apart == 0 {
		says = "the endpoints' clocks agree with this one"
	}
	return append(findings, finding{ok, "clock skew", says})
}

// files compares the limit on descriptors with what all connections and attempts at a time would need.
func (p *patient) files() finding {
	const about = "file limit"
	need := int64(connections + spareFiles)
	for i := range p.config.Endpoints {
		need += int64(p.config.Endpoints[i].Delivery.Concurrency)
	}
	whose := "of this shell"
	var limit unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) // 0 is told as too low
	has := int64(min(limit.Max, math.MaxInt64))    // Go raises the soft limit to it
	open := ""
	if p.running != nil {
		whose, has, open = "of the relay", p.running.Process.OpenFilesLimit, fmt.Sprintf(", %d are open", p.running.Process.OpenFiles)
	}
	says := fmt.Sprintf("the limit %s is %d descriptors%s; all connections and attempts together need %d", whose, has, open, need)
	if has < need {
		return finding{warn, about, says + ": raise LimitNOFILE (systemctl edit realtorbot-relay), or ulimit -n"}
	}
	return finding{ok, about, says}
}

// names looks up every endpoint's host and says whether the address guard would let a delivery go there.
func (p *patient) names(ctx context.Context) (findings []finding) {
	for i := range p.config.Endpoints {
		ep := &p.config.Endpoints[i]
		if !ep.Enabled || ep.URL.IsZero() { // or it is a secret of the service, which was told
			continue
		}
		about := "endpoint " + ep.Name
		u, err := url.Parse(ep.URL.Reveal())
		if err != nil {
			continue // config has checked it
		}
		if !ep.Delivery.Proxy.IsZero() && ep.Delivery.ProxyLookup == config.LookupProxy {
			findings = append(findings, finding{ok, about, "goes through its proxy, which looks up the name itself"})
			continue
		}
		findings = append(findings, lookUp(ctx, about, ep, u.Hostname()))
	}
	return findings
}

func lookUp(ctx context.Context, about string, ep *config.Endpoint, host string) finding {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	began := time.Now()
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return finding{fail, about, fmt.Sprintf("its host %q can't be looked up (%s): mend the URL, /etc/resolv.conf or the resolver", host, client.LookupReason(err))}
	}
	guard := client.DialControl("endpoint "+ep.Name, host, ep.AllowPrivate)
	var allowed []string
	var refusedBy error
	for _, address := range addresses {
		if err := guard(ctx, "tcp", netip.AddrPortFrom(address.Unmap(), 443).String(), nil); err != nil {
			refusedBy = err
			continue
		}
		allowed = append(allowed, address.Unmap().String())
	}
	if len(allowed) == 0 {
		return finding{fail, about, fmt.Sprintf("no delivery goes to its host %q: %s", host, refusedBy)}
	}
	return finding{ok, about, fmt.Sprintf("its host %q is %s, looked up in %s", host, strings.Join(allowed, ", "), brief(time.Since(began)))}
}

// certificates looks at when those that the relay shows, and those that it was shown, end.
func (p *patient) certificates() (findings []finding) {
	judge := func(about string, ends time.Time) {
		left := ends.Sub(p.now)
		says := fmt.Sprintf("ends on %s, in %s", ends.UTC().Format("2006-01-02"), days(left))
		switch {
		case left <= 0:
			findings = append(findings, finding{fail, about, fmt.Sprintf("ended on %s: have it renewed", ends.UTC().Format("2006-01-02"))})
		case left < client.CertificateWarning:
			findings = append(findings, finding{warn, about, says + ": have it renewed"})
		default:
			findings = append(findings, finding{ok, about, says})
		}
	}
	for _, own := range [][2]string{{"tls_cert", p.config.Server.TLSCert}, {"admin.tls_cert", p.config.Admin.TLSCert}} {
		setting, path := own[0], own[1]
		if path == "" || strings.HasPrefix(path, "cred:") { // which the service alone has: its health tells
			continue
		}
		switch ends, err := endOf(path); {
		case err != nil:
			findings = append(findings, finding{fail, setting, fmt.Sprintf("%q: %s", path, reason(err))})
		default:
			judge(setting, ends)
		}
	}
	if p.running != nil {
		for _, ep := range p.running.Endpoints {
			if ep.CertificateExpires != nil {
				judge("certificate of "+ep.Name, *ep.CertificateExpires)
			}
		}
	}
	return findings
}

// endOf is when the first certificate of a PEM file's chain to end does.
func endOf(path string) (ends time.Time, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return ends, err
	}
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return ends, err
		}
		if ends.IsZero() || certificate.NotAfter.Before(ends) {
			ends = certificate.NotAfter
		}
	}
	if ends.IsZero() {
		return ends, fmt.Errorf("it holds no certificate")
	}
	return ends, nil
}
