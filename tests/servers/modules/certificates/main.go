// Command certificates makes an authority, and certificates that it signed: each for a client, and for a
// server on the loopback address. One whose name begins with an underscore has no common name in it.
//
//	certificates FOLDER NAME[:GROUP] ...
//
// It writes ca.crt, and NAME.crt and NAME.key for each name, all in PEM. Kubernetes takes the common name
// for the user and the organization for his group. The authority's own key is not kept.
package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: certificates FOLDER NAME[:GROUP] ...")
		os.Exit(2)
	}
	folder, names := os.Args[1], os.Args[2:]
	authority := template("authority-of-tests", "")
	authority.IsCA, authority.BasicConstraintsValid = true, true
	authority.KeyUsage = x509.KeyUsageCertSign
	authorityKey := newKey()
	write(folder, "ca.crt", "CERTIFICATE", sign(authority, authority, authorityKey.Public(), authorityKey))
	for _, word := range names {
		name, group, _ := strings.Cut(word, ":")
		certificate := template(name, group)
		if strings.HasPrefix(name, "_") {
			certificate.Subject.CommonName = ""
		}
		certificate.KeyUsage = x509.KeyUsageDigitalSignature
		certificate.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
		certificate.DNSNames = []string{"localhost"}
		certificate.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
		key := newKey()
		write(folder, name+".crt", "CERTIFICATE", sign(certificate, authority, key.Public(), authorityKey))
		text, err := x509.MarshalPKCS8PrivateKey(key)
		check(err)
		write(folder, name+".key", "PRIVATE KEY", text)
	}
}

func template(name, group string) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	check(err)
	subject := pkix.Name{CommonName: name}
	if group != "" {
		subject.Organization = []string{group}
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      subject,
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(24 * time.Hour),
	}
}

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	return key
}

func sign(certificate, authority *x509.Certificate, key crypto.PublicKey, by crypto.PrivateKey) []byte {
	signed, err := x509.CreateCertificate(rand.Reader, certificate, authority, key, by)
	check(err)
	return signed
}

func write(folder, name, kind string, content []byte) {
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content})
	check(os.WriteFile(filepath.Join(folder, name), text, 0o600))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
