//! Converts a checkpoint or a GGUF file, shows how far it is, and stops when asked to.
//!
//! ```sh
//! cargo run -p quant-convert --example convert -- CHECKPOINT model.gguf [TYPE]
//! ```

use std::{path::PathBuf, sync::atomic::AtomicBool};

use quant_convert::{Control, Conversion, Progress, recipe::FileType};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(input), Some(output)) = (arguments.next(), arguments.next()) else {
        return Err("usage: convert INPUT OUTPUT [TYPE]".into());
    };
    let (input, output) = (PathBuf::from(input), PathBuf::from(output));
    let Some(ty) = arguments.next() else {
        // The job, 2 lines:
        let plan = Conversion::new(input).file_type(FileType::Q4_K_M).plan()?;
        plan.write(output)?;
        // Done.
        return Ok(());
    };

    // The same, watched.
    let ty: FileType = ty.to_string_lossy().parse()?;
    let plan = Conversion::new(input).file_type(ty).plan()?;
    println!("{} bytes, {:.2} bits per weight", plan.total_bytes(), plan.bits_per_weight());
    // What would keep it from being written is known before anything is read.
    plan.check()?;
    plan.check_output(&output)?;
    // Another thread may set this.
    let cancel = AtomicBool::new(false);
    let progress = |now: Progress<'_>| {
        println!("{:3} %  {}", now.done * 100 / now.total.max(1), now.tensor);
    };
    plan.write_with(output, Control { progress: Some(&progress), cancel: Some(&cancel) })?;
    Ok(())
}
