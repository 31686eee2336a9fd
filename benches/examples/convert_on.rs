//! A conversion with the kernels of one instruction set, for measurements of whole processes:
//!
//! `convert_on ISA INPUT OUTPUT TYPE THREADS [IMATRIX]`, without the flush to the disk. The product
//! has no such switch: it takes the fastest set that the CPU has, and the bytes are the same.

use std::{error::Error, path::Path};

use quant_convert::{Control, Options, Plan, open, recipe::Request};
use quant_kernels::Kernels;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [isa, input, output, file_type, threads, imatrix @ ..] = &arguments[..] else {
        return Err("usage: convert_on ISA INPUT OUTPUT TYPE THREADS [IMATRIX]".into());
    };
    let kernels = Kernels::supported().find(|kernels| kernels.isa().name() == isa);
    let kernels = kernels.ok_or_else(|| format!("this CPU does not have {isa}"))?;
    let options = Options {
        request: Request::new(file_type.parse()?),
        imatrix: imatrix.first().map(Into::into),
        threads: threads.parse()?,
        overwrite: true,
        no_sync: true,
        kernels: Some(kernels),
        ..Options::default()
    };
    let plan = Plan::new(open(Path::new(input), &options)?, &options)?;
    plan.run(Path::new(output), Control::default())?;
    Ok(())
}
