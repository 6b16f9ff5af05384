module kubby.dev/benchmark/app

go 1.24.0
