//! The header: C and C++ take it without a warning, and its structs have Rust's layouts.

use std::fmt::Write as _;
use std::mem::{align_of, offset_of};
use std::path::{Path, PathBuf};
use std::process::Command;

use faceptor_c::records::{Enrolment, Face, GalleryOptions, Identity, Image, Naming, Options, Photo};

/// Compiles a source with the strictest settings; returns the program.
fn compile(compiler: &str, standard: &str, name: &str, source: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (file, program) = (folder.join(name), folder.join(format!("{name}.{standard}.out")));
    std::fs::write(&file, source).expect("a folder for tests");
    let warnings = ["-Wall", "-Wextra", "-pedantic", "-Werror"];
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    let done = Command::new(compiler)
        .arg(format!("-std={standard}"))
        .args(warnings)
        .args([Path::new("-I"), &include, &file, Path::new("-o"), &program])
        .output()
        .unwrap_or_else(|reason| panic!("{compiler}: {reason}"));
    assert!(done.status.success(), "{standard}: {}", String::from_utf8_lossy(&done.stderr));
    program
}

/// `(struct, size, alignment, [(field, offset)])`.
type Layout = (&'static str, usize, usize, Vec<(&'static str, usize)>);

macro_rules! layout {
    ($name:literal, $type:ty, $($field:ident),+) => {
        ($name, size_of::<$type>(), align_of::<$type>(),
         vec![$((stringify!($field), offset_of!($type, $field))),+])
    };
}

fn layouts() -> Vec<Layout> {
    vec![
        layout!(
            "faceptor_options",
            Options,
            struct_size,
            model_path,
            model_data,
            model_size,
            tasks,
            threads,
            looks,
            max_faces,
            min_face,
            upright,
            fine_masks
        ),
        layout!("faceptor_image", Image, struct_size, data, size, stride, width, height, format, colour),
        layout!(
            "faceptor_face",
            Face,
            struct_size,
            id,
            results,
            score,
            box_,
            keypoints,
            trusted,
            eyes_px,
            turn,
            roll,
            age_years,
            age_std,
            landmarks,
            landmark_count,
            parsing_share,
            parsing_classes,
            parsing_count,
            expression_scores,
            expression_labels,
            expression_count,
            expression_best,
            attribute_probabilities,
            attribute_labels,
            attribute_count,
            embedding,
            embedding_count
        ),
        layout!("faceptor_gallery_options", GalleryOptions, struct_size, key_path, passphrase, access),
        layout!("faceptor_naming", Naming, struct_size, fpir, threshold, margin),
        layout!("faceptor_identity", Identity, struct_size, name, unknown, similarity, second_similarity, threshold),
        layout!("faceptor_enrolment", Enrolment, struct_size, by, purpose, expires, force),
        layout!("faceptor_photo", Photo, struct_size, path, image, enrolled, known, reasons),
    ]
}

/// Returns the fields that the header declares for a struct.
fn declared(header: &str, name: &str) -> Vec<String> {
    let body = header.split(&format!("typedef struct {name} {{")).nth(1).and_then(|rest| rest.split('}').next());
    let fields = body.expect("a struct of the header").lines().filter_map(|line| {
        let declaration = line.split(';').next().filter(|_| line.contains(';'))?;
        let name = declaration.replace("(*", " ").replace([')', '*'], " ");
        let name = name.split('[').next()?.split_whitespace().last()?;
        Some(name.to_owned())
    });
    fields.collect()
}

#[test]
fn structs_have_the_same_layout_in_c() {
    let header = include_str!("../include/faceptor.h");
    let mut source = String::from("#include <faceptor.h>\n#include <stdio.h>\nint main(void)\n{\n");
    let mut expected = String::new();
    for (name, size, alignment, fields) in layouts() {
        let of_c: Vec<&str> = fields.iter().map(|(field, _)| field.trim_end_matches('_')).collect();
        assert_eq!(declared(header, name), of_c, "{name}");
        // A struct after a byte shows the alignment in C99.
        let aligned = format!("struct {{ char c; {name} s; }}");
        writeln!(source, "    {{ {aligned} *p = NULL; (void)p; }}").expect("memory");
        writeln!(source, "    printf(\"{name} %lu\\n\", (unsigned long)sizeof({name}));").expect("memory");
        writeln!(expected, "{name} {size}").expect("memory");
        assert_eq!(alignment, align_of::<usize>(), "{name}");
        for ((field, offset), of_c) in fields.iter().zip(of_c) {
            writeln!(source, "    printf(\"{field} %lu\\n\", (unsigned long)offsetof({name}, {of_c}));")
                .expect("memory");
            writeln!(expected, "{field} {offset}").expect("memory");
        }
    }
    source.push_str("    return 0;\n}\n");
    let program = compile("cc", "c99", "layout.c", &source);
    let done = Command::new(program).output().expect("the program that was compiled");
    assert_eq!(String::from_utf8_lossy(&done.stdout), expected);
}

#[test]
fn c_and_cpp_take_the_header_without_a_warning() {
    let source = "#include <faceptor.h>\n#include <faceptor.h>\nint main(void) { faceptor_image image; \
                  image.struct_size = sizeof image; return image.struct_size == 0; }\n";
    for standard in ["c99", "c11", "c17"] {
        compile("cc", standard, "header.c", source);
    }
    for standard in ["c++98", "c++11", "c++17", "c++20"] {
        compile("c++", standard, "header.cpp", source);
    }
}

#[test]
fn the_header_declares_every_function_and_number_of_the_library() {
    let header = include_str!("../include/faceptor.h");
    let functions = [include_str!("../src/functions.rs"), include_str!("../src/gallery_functions.rs")].concat();
    let exported = functions.lines().filter_map(|line| line.split("extern \"C\" fn ").nth(1)?.split('(').next());
    let exported: Vec<&str> = exported.collect();
    assert_eq!(exported.len(), 30);
    for name in exported {
        assert!(header.contains(&format!("{name}(")), "{name}");
    }
    let version = header.lines().find_map(|line| line.strip_prefix("#define FACEPTOR_ABI_VERSION "));
    assert_eq!(version.and_then(|number| number.parse().ok()), Some(faceptor_c::faceptor_abi_version()));
}
