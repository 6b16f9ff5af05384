module kubby.dev/testimage

go 1.21
