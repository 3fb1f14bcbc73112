#!/usr/bin/perl
# verify.pl — the second opinion on signatures: Mail::DKIM, which shares no code with dkimpy.
#
#   verify.pl MAILDIR KEYS.json
#
# KEYS.json maps "<selector>._domainkey.<domain>" to the TXT record; the DNS is not asked. Debian's
# Mail::DKIM (1.20230212) is older than its support of RFC 8463, so Ed25519 is taught to it below:
# canonicalisation and hashes are Mail::DKIM's, the curve is CryptX's. Works in two processes. Prints one JSON object {messages, rsa_ok, ed25519_ok, failed, failures}; "failures"
# lists at most 20. Exit code 0 whenever all messages could be looked at.

use strict;
use warnings;
use Crypt::PK::Ed25519;
use JSON::PP;
use MIME::Base64;
use Mail::DKIM::Algorithm::rsa_sha256;
use Mail::DKIM::PublicKey;
use Mail::DKIM::Signature;
use Mail::DKIM::Verifier;

my $PROCESSES = 2;
my $FAILURES_SHOWN = 20;

my ($maildir, $keys_file) = @ARGV;
my $keys = decode_json(slurp($keys_file));

# RFC 8463 section 3: the Ed25519 signature is over the SHA-256 of the headers.
package Ed25519Sha256 {
    our @ISA = ('Mail::DKIM::Algorithm::rsa_sha256');

    sub verify {
        my ($self) = @_;
        my $signed = MIME::Base64::decode_base64($self->signature->data);
        my $digest = $self->{header_digest}->digest;
        return unless $self->signature->get_public_key->curve->verify_message($signed, $digest);
        return $self->check_body_hash;
    }
}

# Its key: 32 raw octets. Mail::DKIM asks the "cork" (its OpenSSL key) for nothing but the size.
package Ed25519Key {
    our @ISA = ('Mail::DKIM::PublicKey');

    sub cork { return $_[0] }
    sub size { return 32 }

    sub curve {
        my ($self) = @_;
        my $raw = MIME::Base64::decode_base64($self->data);
        return Crypt::PK::Ed25519->new->import_key_raw($raw, 'public');
    }
}

# The TXT record of a key, in place of the DNS.
sub fetch_key {
    my ($class, %query) = @_;
    my $txt = $keys->{"$query{Selector}._domainkey.$query{Domain}"} // return;
    my $ed25519 = $txt =~ /\bk=ed25519\b/;
    my $key = ($ed25519 ? 'Ed25519Key' : $class)->parse($txt);
    $key->{Domain} = $query{Domain};
    $key->check unless $ed25519;
    return $key;
}

{
    no warnings 'redefine';
    *Mail::DKIM::PublicKey::fetch_async = sub {
        my ($class, %query) = @_;
        my $key = $query{Callbacks}{Success}->(fetch_key($class, %query));
        return sub { $key };
    };
    my $algorithm_class = \&Mail::DKIM::Signature::get_algorithm_class;
    *Mail::DKIM::Signature::get_algorithm_class = sub {
        my ($self, $algorithm) = @_;
        return 'Ed25519Sha256' if $algorithm eq 'ed25519-sha256';
        return $self->$algorithm_class($algorithm);
    };
}

sub slurp {
    my ($path) = @_;
    open(my $file, '<:raw', $path) or die "$path: $!\n";
    local $/;
    return scalar <$file>;
}

# Verifies one file into the given totals.
sub check {
    my ($path, $total) = @_;
    my $raw = slurp($path);
    $raw =~ s/\r?\n/\r\n/g;
    my $verifier = Mail::DKIM::Verifier->new();
    $verifier->PRINT($raw);
    $verifier->CLOSE();
    my @signatures = $verifier->signatures;
    my ($name) = $path =~ m{([^/]+)$};
    push @{ $total->{failures} }, "$name: not signed" unless @signatures;
    for my $signature (@signatures) {
        if ($signature->result eq 'pass') {
            $total->{ ($signature->algorithm =~ /^(rsa|ed25519)-sha256$/)[0] . '_ok' }++;
        } else {
            push @{ $total->{failures} },
                "$name: " . $signature->algorithm . ': ' . $signature->result_detail;
        }
    }
    $total->{messages}++;
}

my @paths = sort glob("'$maildir'/new/* '$maildir'/cur/*");
my @pipes;
for my $process (0 .. $PROCESSES - 1) {
    my $child = open(my $pipe, '-|') // die "fork: $!\n";
    if ($child) {
        push @pipes, $pipe;
        next;
    }
    my $total = { messages => 0, rsa_ok => 0, ed25519_ok => 0, failures => [] };
    check($paths[$_], $total) for grep { $_ % $PROCESSES == $process } 0 .. $#paths;
    print encode_json($total);
    exit 0;
}

my %sum = (messages => 0, rsa_ok => 0, ed25519_ok => 0, failures => []);
for my $pipe (@pipes) {
    local $/;
    my $part = decode_json(scalar <$pipe>);
    close($pipe) or die "a verifying process died\n";
    $sum{$_} += $part->{$_} for qw(messages rsa_ok ed25519_ok);
    push @{ $sum{failures} }, @{ $part->{failures} };
}
$sum{failed} = @{ $sum{failures} };
splice @{ $sum{failures} }, $FAILURES_SHOWN if $sum{failed} > $FAILURES_SHOWN;
print encode_json(\%sum);
