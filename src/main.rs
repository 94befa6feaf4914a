fn main() {
    println!("faceptor {}", env!("CARGO_PKG_VERSION"));
}
