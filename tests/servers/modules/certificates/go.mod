module incumbent.test/certificates

go 1.26.0
